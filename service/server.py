"""The server around the application: one process, or several behind one address with a parent that replaces those that die."""

import os

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings, read_settings
from service.shared_metrics import shared

KEEP_ALIVE_S = 65  # longer than the idle time of usual proxies
LAST_S = 5  # what is in flight may take beyond its own limit, until it is given up


def run(settings: Settings, redis_url: str) -> None:
    """Serve until stopped. Of several processes one that dies is replaced within a second; SIGHUP replaces them one by one."""
    several, end_s = settings.workers > 1, int(settings.timeout_ms / 1000) + LAST_S
    os.environ["CTR_REDIS_URL"] = redis_url  # workers read their settings anew, and share one embedded store
    with shared(several):
        uvicorn.run(
            "service.server:worker" if several else create_app(settings, redis_url), factory=several, workers=settings.workers,
            host=settings.host, port=settings.port, loop="uvloop", http="httptools", access_log=False, log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=end_s, server_header=False,
        )  # fmt: skip


def worker() -> FastAPI:
    """The application of one process of several."""
    settings = read_settings()
    return create_app(settings, settings.redis_url)
