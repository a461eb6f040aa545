import asyncio
import time

from service.loop_lag import EVERY_S, lag_observed
from service.metrics import Metrics


def test_what_holds_the_loop_up_is_seen():
    metrics, counted = Metrics(), []

    async def hold_up():
        async with lag_observed(metrics):
            await asyncio.sleep(0)
            time.sleep(0.35 + EVERY_S)
            metrics.later(counted.append, 1)
            await asyncio.sleep(EVERY_S)

    asyncio.run(hold_up())
    number, in_time = (
        metrics.registry.get_sample_value(f"ctr_event_loop_lag_seconds_{name}", of)
        for name, of in (("count", {}), ("bucket", {"le": "0.25"}))
    )
    assert number - in_time == 1
    assert counted == [1]
