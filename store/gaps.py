"""Time gaps: how long before the impression a behaviour was, as one of a few buckets.

The gap is the one feature of a behaviour that is not stored: it depends on the request's time. It
stands before the stored cross features wherever those are listed.
"""

import numpy as np
from numba import njit

from store.search.workspace import read_only
from store.types import Bytes, Rows, Seconds

# Half octaves from one minute to about six years; bucket 0 is padding.
EDGES_S = np.unique(np.round(60 * 2 ** (np.arange(44) / 2)).astype(np.int64))
BUCKETS = len(EDGES_S) + 2


def gap_buckets(ts: Seconds, at: int) -> Rows:
    """Bucket 1..BUCKETS-1 of each gap `at - ts` in seconds; gaps below 0 count as 0. Cost: 1 ns a behaviour where `ts`
    ascend, else up to 50."""
    return gap_and(np.zeros((len(ts), 0), np.uint8), ts, at)[:, 0]


def gap_and(cross: Bytes, ts: Seconds, at: int) -> Rows:
    """int32 [L, 1 + J]: the gap's bucket, then the stored ones of `cross` uint8 [L, J]. Cost: as of `gap_buckets`."""
    buckets = np.empty((len(ts), 1 + cross.shape[1]), np.int32)
    _fill(read_only(ts), at, EDGES_S, read_only(cross), buckets)
    return buckets


@njit(cache=True, nogil=True)
def _fill(ts: Seconds, at: int, edges: Seconds, cross: Bytes, buckets: Rows) -> None:
    """Each behaviour's gap, looked for from that of the one before it, and its other buckets."""
    reached = len(edges)
    for i in range(len(ts)):
        gap = max(at - ts[i], 0)
        while reached > 0 and gap < edges[reached - 1]:
            reached -= 1
        while reached < len(edges) and gap >= edges[reached]:
            reached += 1
        buckets[i, 0] = reached + 1
        for j in range(cross.shape[1]):
            buckets[i, 1 + j] = cross[i, j]
