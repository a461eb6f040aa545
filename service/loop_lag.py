"""How late the event loop comes: it reads and writes all connections, so what holds it up holds up every call.

What calls left to be counted is counted on the same occasion.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from service.metrics import Metrics

EVERY_S = 0.1
AT_ONCE = 16  # calls counted, half a millisecond, before others have the loop again


@asynccontextmanager
async def lag_observed(metrics: Metrics) -> AsyncIterator[None]:
    """While this lasts, ten times a second: by how much a sleep was too long."""
    task = asyncio.create_task(_observe(metrics))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _observe(metrics: Metrics) -> None:
    while True:
        due = time.perf_counter() + EVERY_S
        await asyncio.sleep(EVERY_S)
        metrics.loop_lag.observe(max(time.perf_counter() - due, 0))
        while metrics.count(AT_ONCE):
            await asyncio.sleep(0)
