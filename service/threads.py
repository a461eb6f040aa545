"""Threads that calls are handed to, first come, first served, while their event loop goes on.

The library's pool has a future of its own, with a lock and a condition, beside the loop's: a hand-over there is a hundred calls
of Python, and here a dozen. A request makes one, and its caches are cold.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Answer = TypeVar("Answer")

Handed = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """So many threads; all are there from the start."""

    def __init__(self, number: int, name: str) -> None:
        self._queue: SimpleQueue[Handed | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}_{i}", daemon=True) for i in range(number)]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[*Arguments], Answer], *arguments: *Arguments) -> "asyncio.Future[Answer]":
        """What `call(*arguments)` returns or raises in a thread, to be awaited by the running loop. A call that nobody waits for
        any more before its turn is not begun."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.put((future, call, arguments))
        return future

    def close(self) -> None:
        """End the threads, after what was handed to them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (handed := self._queue.get()) is not None:
            future, call, arguments = handed
            if not future.cancelled():
                end: tuple[Callable[..., None], Any]
                try:
                    end = _succeed, call(*arguments)
                except BaseException as error:  # the edge: it belongs to who waits
                    end = _fail, error
                with suppress(RuntimeError):  # the loop has ended, and nobody waits
                    future.get_loop().call_soon_threadsafe(end[0], future, end[1])
                del end
            del handed, future, call, arguments  # what the last call held does not stay until the next one


def _succeed(future: "asyncio.Future[Any]", answer: Any) -> None:
    if not future.done():
        future.set_result(answer)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
