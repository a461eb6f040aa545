import asyncio
import time

from prometheus_client import CollectorRegistry, Histogram

from service.loop_lag import EVERY_S, lag_observed


def test_what_holds_the_loop_up_is_seen():
    registry = CollectorRegistry()
    histogram = Histogram("lag", "x", buckets=(0.2, 1), registry=registry)

    async def hold_up():
        async with lag_observed(histogram):
            await asyncio.sleep(0)
            time.sleep(0.35 + EVERY_S)
            await asyncio.sleep(EVERY_S)

    asyncio.run(hold_up())
    late = registry.get_sample_value("lag_count", {}) - registry.get_sample_value("lag_bucket", {"le": "0.2"})
    assert late == 1
