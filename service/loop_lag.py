"""How late the event loop comes: it reads and writes all connections, so what holds it up holds up every call."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import Histogram

EVERY_S = 0.1


@asynccontextmanager
async def lag_observed(histogram: Histogram) -> AsyncIterator[None]:
    """While this lasts, ten times a second: by how much a sleep was too long."""
    task = asyncio.create_task(_observe(histogram))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _observe(histogram: Histogram) -> None:
    while True:
        due = time.perf_counter() + EVERY_S
        await asyncio.sleep(EVERY_S)
        histogram.observe(max(time.perf_counter() - due, 0))
