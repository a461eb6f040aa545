"""Tables of bucket sums, SDIM's: what each target reads from a user's, and what behaviours add to it, on one core.

    interest(q) = 1 / G sum_g l2norm( sums[g, bucket[q, g]] )

which is eq. 12 of the paper, as in export/models/sdim.py. A graph reads by a product with zeros and ones, eight for
each vector that it wants, and it takes longer to begin than to add a few behaviours.
Sums are of float32, in an order of their own: results differ from a graph's by rounding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.lanes import LANES, fetch, floats_of, load_floats, plus, store
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "de69e0ab"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

OPERANDS = ("bucket", "candidate_row", "bucket_sum")
AHEAD = 8  # candidates: so far ahead buckets are asked for
SHORTEST = np.float32(1e-12)  # that a sum is divided by, as torch has it

WORKSPACE = Workspace()


def read_sums(bucket: Rows, candidate_row: Rows, bucket_sum: Floats) -> tuple[Floats]:
    """The interest of each candidate, float32 [1, 1, C, D]; zeros for the empty user.

    Args:
        bucket: int32 [N, G], of items, for each of G signatures; candidate_row: int32 [1, 1, C], within them.
        bucket_sum: float32 [1, G, B, D].

    Raises:
        ValueError: shapes that do not fit one another, or a bucket that is none of B.

    Cost: 500 candidates of 16 signatures and D = 64 about 0.03 ms.
    """
    signatures, buckets, width = bucket_sum.shape[1:]
    _check(bucket, signatures)
    padded, row = -(-width // LANES) * LANES, candidate_row.ravel()
    (unit,) = WORKSPACE.arrays(("f4", (signatures, buckets, padded)))
    read = np.empty((len(row), padded), np.float32)
    if not read_each(read_only(bucket), read_only(row), read_only(bucket_sum[0]), unit, read):
        raise _beyond(buckets)
    return (read[None, None, :, :width],)


def add_to_sums(feed: Mapping[str, NDArray[Any]], bucket: Rows, item_vector: Floats) -> list[NDArray[Any]]:
    """The sums float32 [1, G, B, D] after behaviours: each adds its vector to one bucket of each signature.

    Args:
        feed: `bucket_sum` float32 [1, G, B, D], which stays as it is, and `behaviour_row` int32 [1, 1, T] within the items.
        bucket: int32 [N, G]; item_vector: float32 [N, D].

    Raises:
        ValueError: as `read_sums`.

    Cost: about 0.1 us a behaviour and signature of D = 64.
    """
    sums = np.array(feed["bucket_sum"], np.float32)
    signatures, buckets, width = sums.shape[1:]
    _check(bucket, signatures)
    if item_vector.shape[1] != width:
        raise ValueError(f"item_vector is {item_vector.shape[1]} wide, the sums {width}")
    if not add_each(read_only(item_vector), read_only(bucket), read_only(feed["behaviour_row"].ravel()), sums[0]):
        raise _beyond(buckets)
    return [sums]


def _check(bucket: Rows, signatures: int) -> None:
    if bucket.shape[1] != signatures:
        raise ValueError(f"bucket has {bucket.shape[1]} signatures, the sums {signatures}")


def _beyond(buckets: int) -> ValueError:
    return ValueError(f"bucket holds one that is not among the {buckets} of the sums")


@njit(cache=True, nogil=True, _nrt=False, fastmath={"contract", "reassoc"})
def read_each(bucket: Rows, row: Rows, sums: Floats, unit: Floats, read: Floats) -> bool:
    """`read_sums`, with room for sums of length 1 / G, whose width is a multiple of sixteen, and for the answers; False: a
    bucket is not there."""
    signatures, buckets, width = sums.shape
    padded = unit.shape[2]
    for g in range(signatures):
        for b in range(buckets):
            square = np.float32(0)
            for d in range(width):
                square += sums[g, b, d] * sums[g, b, d]
            factor = np.float32(1) / (max(np.sqrt(square), SHORTEST) * np.float32(signatures))
            for d in range(width):
                unit[g, b, d] = sums[g, b, d] * factor
            for d in range(width, padded):
                unit[g, b, d] = 0
    for c in range(len(row)):
        fetch(bucket, np.int64(row[min(c + AHEAD, len(row) - 1)]) * signatures)
        for g in range(signatures):
            if not 0 <= bucket[row[c], g] < buckets:
                return False
        for d in range(0, padded, LANES):
            total = floats_of(np.float32(0))
            for g in range(signatures):
                total = plus(total, load_floats(unit, (g * buckets + bucket[row[c], g]) * padded + d))
            store(read, c * padded + d, total)
    return True


@njit(cache=True, nogil=True, _nrt=False)
def add_each(item_vector: Floats, bucket: Rows, row: Rows, sums: Floats) -> bool:
    """`add_to_sums`, in place; False: a bucket is not there."""
    for t in range(len(row)):
        for g in range(bucket.shape[1]):
            b = bucket[row[t], g]
            if not 0 <= b < sums.shape[1]:
                return False
            for d in range(item_vector.shape[1]):
                sums[g, b, d] += item_vector[row[t], d]
    return True
