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


@njit(cache=True, nogil=True)
def ranked(relevance: Floats, k: int, bits: NDArray[np.uint32], buffer: NDArray[np.uint64], out: Rows) -> None:
    """The k behaviours of largest relevance, best first, equal relevance newest first.

    A buffer takes what beats the k-th best seen so far; when it is full it is cut back to k. Keys are
    (relevance as an ordered integer, index) in one word, so no two are equal. Cost: L + k log L.

    Args:
        relevance: float32 [L], no NaN; k: 1..L; bits: the same memory as uint32; buffer: uint64
            [>= 2 k], scratch; out: int32 [k].
    """
    size, filled = len(buffer), 0
    floor = np.uint64(0)
    for i in range(len(relevance)):
        b = bits[i]
        if b & np.uint32(0x80000000):  # IEEE order: flip all bits of negatives, the sign of the others
            b = ~b
        else:
            b = b | np.uint32(0x80000000)
        key = (np.uint64(b) << np.uint64(32)) | np.uint64(i)
        if key > floor:
            buffer[filled] = key
            filled += 1
            if filled == size:
                cut = np.partition(buffer, size - k)[size - k :]
                buffer[:k] = cut
                floor = cut[0]
                filled = k
    best = np.sort(buffer[:filled])
    for j in range(k):
        out[j] = np.int32(best[filled - 1 - j] & np.uint64(0xFFFFFFFF))
