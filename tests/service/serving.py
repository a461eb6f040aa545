"""A scorer inside the test's own process, over real HTTP: for tests that hold a step up or look inside.

Clients here and elsewhere have `verify=False` where they are made often: to read a system's authorities takes 40 ms.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http_head import LimitedHttp
from service.settings import Settings
from service.threads import Threads

NOBODY = "redis://127.0.0.1:1"  # a port where no store listens


@contextmanager
def served(bundles: Path, redis_url: str = NOBODY, **settings: object) -> Iterator[tuple[httpx.Client, FastAPI]]:
    """Run the application in a thread; yields a client and the application. `settings` are fields of Settings."""
    values = {"store_timeout_ms": 5000, "timeout_ms": 30_000, "queue_ms": 60_000} | settings
    app = create_app(Settings(bundles=bundles, **values), redis_url)
    config = uvicorn.Config(app, port=0, loop="asyncio", http=LimitedHttp, ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        (socket,) = server.servers[0].sockets
        with httpx.Client(base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", timeout=60, verify=False) as client:
            yield client, app
    finally:
        server.should_exit = True
        thread.join(60)


def until(condition, limit_s: float = 60):  # type: ignore[no-untyped-def]
    """Wait for a condition and return its value; an error if it does not come true."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {limit_s} s")
        time.sleep(0.01)
    return value


@contextmanager
def held(threads: Threads) -> Iterator[None]:
    """The only thread of these does nothing else until the block ends."""
    begun, free = threading.Event(), threading.Event()

    async def hold() -> None:
        assert await threads.run(lambda: begun.set() or free.wait(60))

    with ThreadPoolExecutor(1) as own:
        holding = own.submit(asyncio.run, hold())
        assert begun.wait(60)
        try:
            yield
        finally:
            free.set()
            holding.result()
