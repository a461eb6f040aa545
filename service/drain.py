"""SIGTERM without losing a call.

The scorer is at once not ready, so that whoever spreads the load sends it less; it serves on for CTR_DRAIN_MS, over open and new
connections, and asks every caller to connect anew. Then nobody is let in any more, the listener closes, and what is in flight
ends. The application does this itself, so it is the same under one process and under several.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from service.listener import TAKEN_S, let_nobody_in


class Draining(Protocol):
    """What can be about to end."""

    draining: bool


@contextmanager
def drained_at_sigterm(service: Draining, drain_s: float, listener: socket.socket | None = None) -> Iterator[None]:
    """While this lasts the first SIGTERM begins the end and comes to the server `drain_s` later; a second one comes at once.

    `listener` is this process' alone; one that others have too is for their parent to end. Nothing changes outside the main
    thread, where there are no signals.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    loop = asyncio.get_running_loop()
    at_the_server = before

    def begin(number: int, frame: FrameType | None) -> None:
        if service.draining:
            at_the_server(number, frame)
            return
        service.draining = True
        loop.call_soon_threadsafe(loop.call_later, drain_s, end, number)

    def end(number: int) -> None:
        if listener is not None:
            let_nobody_in(listener)
        loop.call_later(TAKEN_S, at_the_server, number, None)

    signal.signal(signal.SIGTERM, begin)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
