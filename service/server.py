"""The server around the application: starts it, and ends it without losing a call.

At SIGTERM the scorer is no longer ready, so that whoever spreads the load sends it less; it serves on for CTR_DRAIN_MS, over open
and new connections, and asks every caller to connect anew. Then the listener closes, and what is in flight ends.
"""

import signal
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.main import STARTUP_FAILURE

from service.app import create_app
from service.settings import Settings

KEEP_ALIVE_S = 65  # longer than the idle time of usual proxies
LAST_S = 5  # what is in flight may take beyond its own limit, until it is given up


class DrainingServer(uvicorn.Server):
    """uvicorn's server, that waits between a signal and its end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._app, self._drain_s = app, drain_s
        self._ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first SIGTERM; end at once at a second one, or at any other signal."""
        if sig != signal.SIGTERM or self._ends_at is not None or not hasattr(self._app.state, "service"):
            super().handle_exit(sig, frame)
            return
        self._app.state.service.draining = True
        self._ends_at = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to end."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)


def run(settings: Settings, redis_url: str) -> None:
    """Serve until stopped."""
    app = create_app(settings, redis_url)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, loop="uvloop", http="httptools", access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S, log_level="warning", server_header=False,
        timeout_graceful_shutdown=int(settings.timeout_ms / 1000) + LAST_S,
    )  # fmt: skip
    server = DrainingServer(config, app, settings.drain_ms / 1000)
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
