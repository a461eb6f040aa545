"""Time gaps: how long before the impression a behaviour was, as one of a few buckets.

The gap is the one feature of a behaviour that is not stored: it depends on the request's time. It
stands before the stored cross features wherever those are listed.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.types import Seconds

# Half octaves from one minute to about six years; bucket 0 is padding.
EDGES_S = np.unique(np.round(60 * 2 ** (np.arange(44) / 2)).astype(np.int64))
BUCKETS = len(EDGES_S) + 2


def gap_buckets(ts: Seconds, at: int) -> NDArray[np.int32]:
    """Bucket 1..BUCKETS-1 of each gap `at - ts` in seconds; gaps below 0 count as 0. Cost: 1 ns a behaviour where `ts`
    ascend, else up to 50."""
    bucket = np.empty(len(ts), np.int32)
    _fill(np.ascontiguousarray(ts), at, EDGES_S, bucket)
    return bucket


@njit(cache=True, nogil=True)
def _fill(ts: Seconds, at: int, edges: Seconds, bucket: NDArray[np.int32]) -> None:
    """Each behaviour's, looked for from that of the one before it."""
    reached = len(edges)
    for i in range(len(ts)):
        gap = max(at - ts[i], 0)
        while reached > 0 and gap < edges[reached - 1]:
            reached -= 1
        while reached < len(edges) and gap >= edges[reached]:
            reached += 1
        bucket[i] = reached + 1
