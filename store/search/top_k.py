"""The one top-k: exact, equal relevance goes to the newer, answers in time order.

Behaviours stand oldest first, so "newer" is the higher index. Everything here is compiled by numba
and runs without the GIL; nothing copies the behaviours per candidate. All kernels stand in this one
file: numba's cache notices a change of the file a function is in, not of what that function calls.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from store.types import Floats, Rows

BINS = 512


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
        distance[i] = np.uint8(popcount(target ^ signature[i]))
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


@njit(cache=True, nogil=True)
def nearest_of_all(targets: NDArray[np.uint64], signature: NDArray[np.uint64], k: int) -> Rows:
    """`nearest` for targets uint64 [C] among behaviours uint64 [L]: int32 [C, k], ascending in each row."""
    out = np.empty((len(targets), k), np.int32)
    distance = np.empty(len(signature), np.uint8)
    for c in range(len(targets)):
        nearest(targets[c], signature, k, distance, out[c])
    return out


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
        relevance: float32 [L], no NaN; k: 1..L; scratch: int32 [L]; keys: uint64 [L]; out: int32 [k].
    """
    low, high = span(relevance)
    width = np.float64(high) - np.float64(low)
    scale = (BINS - 1) / width if width > 0 else 0.0
    counts = np.zeros(BINS, np.int64)
    for i in range(len(relevance)):
        place = (np.float64(relevance[i]) - low) * scale
        # what is no number (infinite sums) goes to the last bin, where the exact order decides
        scratch[i] = np.int32(place) if place < BINS - 1 else BINS - 1
    for i in range(len(relevance)):
        counts[scratch[i]] += 1
    last = BINS - 1
    above = counts[last]
    while above < k:
        last -= 1
        above += counts[last]
    filled = 0
    for i in range(len(relevance)):
        if scratch[i] >= last:
            keys[filled] = (np.uint64(ordered(relevance[i])) << np.uint64(32)) | np.uint64(i)
            filled += 1
    best = np.sort(keys[:filled])
    for j in range(k):
        out[j] = np.int32(best[filled - 1 - j] & np.uint64(0xFFFFFFFF))


@intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@njit(cache=True, nogil=True)
def ordered(value: np.float32) -> np.uint32:
    """A float32 as an integer of the same order; -0 and 0 are equal."""
    bits = np.uint32(bits_of(np.float32(value + np.float32(0))))
    return np.uint32(~bits if bits & np.uint32(0x80000000) else bits | np.uint32(0x80000000))


@njit(cache=True, nogil=True)
def union_of_heads(query: Floats, key: Floats, bias: Floats, k: int) -> Rows:
    """Round-robin union of the heads' ranked lists: int32 [C, k], ascending in each row.

    Args:
        query: float32 [C, H, d_k]; key: float32 [H, d_k, L]; bias: float32 [H, L]; k: 1..L.
    """
    heads, width, length = key.shape
    out = np.empty((len(query), k), np.int32)
    relevance = np.empty(length, np.float32)
    scratch, keys = np.empty(length, np.int32), np.empty(length, np.uint64)
    best = np.empty((heads, k), np.int32)
    seen = np.full(length, -1, np.int32)  # the candidate that took this behaviour last
    for c in range(len(query)):
        for h in range(heads):
            relevance[:] = bias[h]
            d = 0
            while d + 4 <= width:  # four at a time: the relevances are loaded and stored a quarter as often
                q0, q1, q2, q3 = query[c, h, d], query[c, h, d + 1], query[c, h, d + 2], query[c, h, d + 3]
                k0, k1, k2, k3 = key[h, d], key[h, d + 1], key[h, d + 2], key[h, d + 3]
                for i in range(length):
                    relevance[i] += (q0 * k0[i] + q1 * k1[i]) + (q2 * k2[i] + q3 * k3[i])
                d += 4
            while d < width:
                q0, k0 = query[c, h, d], key[h, d]
                for i in range(length):
                    relevance[i] += q0 * k0[i]
                d += 1
            ranked(relevance, k, scratch, keys, best[h])
        taken = 0
        for rank in range(k):
            for h in range(heads):
                i = best[h, rank]
                if taken < k and seen[i] != c:
                    seen[i] = c
                    out[c, taken] = i
                    taken += 1
        out[c] = np.sort(out[c])
    return out
