"""The server around the application: one process, or several behind one address with a parent that replaces those that die."""

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from service.app import create_app
from service.bundle_folder import newest_in
from service.listener import Lingering, let_nobody_in
from service.settings import Settings, read_settings
from service.shared_metrics import shared

KEEP_ALIVE_S = 65  # longer than the idle time of usual proxies
AT_START = "LONGTRAIL_NEWEST_AT_START"  # versions by model: a worker that is replaced takes up what the others have
LOCK_S = 0.001  # Python hands its lock on after so long: a refusal waits for it behind the threads that score
LAST_S = 5  # what is in flight may take beyond its own limit, until it is given up
LOAD_S = 600  # a new process may take to load, before the one that it is to replace stays
STEP_S = 0.05  # between looks for a second signal


def run(settings: Settings, redis_url: str) -> None:
    """Serve until stopped. Of several processes one that dies is replaced within a second; SIGHUP replaces them one by one."""
    sys.setswitchinterval(LOCK_S)
    several, end_s = settings.workers > 1, int(settings.timeout_ms / 1000) + LAST_S
    os.environ["CTR_REDIS_URL"] = redis_url  # workers read their settings anew, and share one embedded store
    if several and not settings.bundles_poll_s:
        os.environ[AT_START] = json.dumps(newest_in(settings.bundles))
    config = uvicorn.Config(
        "service.server:worker", factory=True, workers=settings.workers, host=settings.host, port=settings.port, loop="uvloop",
        http=Lingering, ws="none", access_log=False, log_level="warning", timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=end_s, server_header=False,
    )  # fmt: skip
    listener = config.bind_socket()
    with shared(several), suppress(KeyboardInterrupt):
        if several:
            Parent(config, [listener], settings.drain_ms / 1000).run()
        else:
            config.app, config.factory = create_app(settings, redis_url, listener=listener), False
            uvicorn.Server(config).run([listener])


def worker() -> FastAPI:
    """The application of one process of several."""
    sys.setswitchinterval(LOCK_S)
    settings = read_settings()
    at_start = json.loads(os.environ.get(AT_START, "null"))
    return create_app(settings, settings.redis_url, at_start)


class Parent(Multiprocess):
    """Ends the listener that its processes share, when they have served on for as long as they should."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], drain_s: float) -> None:
        super().__init__(config, sockets)
        self._drain_s = drain_s

    def restart_all(self) -> None:
        """SIGHUP: each process goes once another one has loaded, however long that takes; a healthy one answers sooner."""
        healthy_s = self.config.timeout_worker_healthcheck
        self.config.timeout_worker_healthcheck = LOAD_S
        try:
            super().restart_all()
        finally:
            self.config.timeout_worker_healthcheck = healthy_s

    def keep_subprocess_alive(self) -> None:
        """Replace who died. One that dies while it is asked ends its pipe, once nobody else holds the pipe's other end."""
        for process in self.processes:
            process.child_conn.close()  # ours; else it would count as slow to answer, for 5 s
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        """SIGTERM for each process; all close the listener after this."""
        super().terminate_all()
        end = time.monotonic() + self._drain_s
        while time.monotonic() < end:
            if not {signal.SIGTERM, signal.SIGINT}.isdisjoint(self.signal_queue):
                super().terminate_all()  # a second signal: theirs too
                break
            time.sleep(STEP_S)
        for listener in self.sockets:
            let_nobody_in(listener)
            listener.close()
