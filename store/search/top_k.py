"""The one top-k: exact, equal relevance goes to the newer, answers in time order.

Behaviours stand oldest first, so "newer" is the higher index. Everything here is compiled by numba
and runs without the GIL; nothing copies the behaviours per candidate.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from store.types import Floats, Rows


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Bits set in a uint64: the processor's own instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def nearest(target: np.uint64, signature: NDArray[np.uint64], k: int, distance: NDArray[np.uint8], out: Rows) -> None:
    """The k behaviours of least Hamming distance, equal distances newest first, ascending in `out`.

    Counting selection: one pass writes the distances and counts them, one pass picks. Cost: 2 L.

    Args:
        signature: uint64 [L]; k: 1..L; distance: uint8 [L], scratch; out: int32 [k].
    """
    counts = np.zeros(65, np.int64)
    for i in range(len(signature)):
        d = np.uint8(popcount(target ^ signature[i]))
        distance[i] = d
    for i in range(len(signature)):
        counts[distance[i]] += 1
    last, taken = 0, 0  # the distance at which the k-th stands, and how many are nearer than it
    while taken + counts[last] < k:
        taken += counts[last]
        last += 1
    ties = k - taken
    at = k
    for i in range(len(signature) - 1, -1, -1):  # newest first, so that ties go to the newer
        if distance[i] < last:
            at -= 1
            out[at] = i
        elif distance[i] == last and ties > 0:
            ties -= 1
            at -= 1
            out[at] = i


BINS = 512


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def span(relevance: Floats) -> tuple[np.float32, np.float32]:
    """Least and largest of float32 [L], L >= 1."""
    low = high = relevance[0]
    for value in relevance:
        low, high = min(low, value), max(high, value)
    return low, high


@njit(cache=True, nogil=True)
def ranked(relevance: Floats, k: int, scratch: NDArray[np.int32], keys: NDArray[np.uint64], out: Rows) -> None:
    """The k behaviours of largest relevance, best first, equal relevance newest first.

    Counting selection again: relevances fall into 512 equal bins, the bin of the k-th is found by
    counting, and only what stands in it or above is sorted, as (relevance in IEEE order, index) in
    one word, so that no two are equal. Cost: 4 L, then about k log k.

    Args:
        relevance: float32 [L], finite; k: 1..L; scratch: int32 [L]; keys: uint64 [L]; out: int32 [k].
    """
    low, high = span(relevance)
    scale = np.float32(0) if high == low else np.float32((BINS - 1) / (np.float64(high) - np.float64(low)))
    counts = np.zeros(BINS + 1, np.int32)
    for i in range(len(relevance)):
        scratch[i] = np.int32((relevance[i] - low) * scale)
    for i in range(len(relevance)):
        counts[scratch[i]] += 1
    last, above = BINS, np.int64(counts[BINS])  # rounding may lift the largest into one more bin
    while above < k:
        last -= 1
        above += counts[last]
    filled = 0
    bits = relevance.view(np.uint32)
    for i in range(len(relevance)):
        if scratch[i] >= last:
            b = bits[i]  # IEEE order: flip all bits of negatives, the sign of the others
            b = ~b if b & np.uint32(0x80000000) else b | np.uint32(0x80000000)
            keys[filled] = (np.uint64(b) << np.uint64(32)) | np.uint64(i)
            filled += 1
    best = np.sort(keys[:filled])
    for j in range(k):
        out[j] = np.int32(best[filled - 1 - j] & np.uint64(0xFFFFFFFF))
