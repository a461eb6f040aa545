"""Made-up users for the benchmarks of the store: seeded, of five kinds."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from store.types import FIRST_KNOWN, Behaviours

DATA, CROSS_FEATURES, BUCKETS = "bench", 4, 16
USERS = {  # behaviours, categories
    "light": (50, 8),
    "median": (400, 90),
    "heavy": (5_000, 190),
    "lifelong, 54,000": (54_000, 200),
    "lifelong, 100,000": (100_000, 1_000),
}
REPEATS = 30


def made_up(behaviours: int, categories: int, seed: int = 0) -> Behaviours:
    """A user's life: every category occurs, some often; ten years."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, categories + 1)
    category = np.concatenate([np.arange(categories), random.choice(categories, behaviours - categories, p=share / share.sum())])
    row = category * 100 + random.integers(0, 100, behaviours) + FIRST_KNOWN
    ts = 1_500_000_000 + np.sort(random.integers(0, 300_000_000, behaviours))
    cross = random.integers(0, BUCKETS, (behaviours, CROSS_FEATURES)).astype(np.uint8)
    return Behaviours.in_order(row.astype(np.int32), (category + FIRST_KNOWN).astype(np.int32), ts, cross)


def median_ms(call: Callable[[], object]) -> float:
    """Median time of a call, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return round(1000 * median(times), 3)
