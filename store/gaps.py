"""Time gaps: how long before the impression a behaviour was, as one of a few buckets.

The gap is the one feature of a behaviour that is not stored: it depends on the request's time. It
stands before the stored cross features wherever those are listed.
"""

import numpy as np
from numpy.typing import NDArray

from store.types import Seconds

# Half octaves from one minute to about six years; bucket 0 is padding.
EDGES_S = np.unique(np.round(60 * 2 ** (np.arange(44) / 2)).astype(np.int64))
BUCKETS = len(EDGES_S) + 2


def gap_buckets(ts: Seconds, at: int) -> NDArray[np.int32]:
    """Bucket 1..BUCKETS-1 of each gap `at - ts` in seconds; gaps below 0 count as 0. Cost: 0.5 ns a behaviour where `ts`
    ascend (the edges are looked up among them), else 9 ns."""
    if (ts[1:] < ts[:-1]).any():
        return (np.searchsorted(EDGES_S, np.maximum(at - ts, 0), side="right") + 1).astype(np.int32)
    reached = np.searchsorted(ts, at - EDGES_S[::-1], side="right")  # behaviours that are beyond each edge, the last first
    return np.repeat(np.arange(len(EDGES_S) + 1, 0, -1, dtype=np.int32), np.diff(reached, prepend=0, append=len(ts)))
