"""Exact search by signature: the k of least Hamming distance, equal distances newest first, in time order.

From a sample, a distance within which a few more than k are expected. One pass marks who is within it, 64
behaviours at a time; among those, k are picked by counting. Where fewer than k are, or far more, all distances
are written down and counted. Answers do not depend on the sample.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.lanes import lowest_bit, popcount, within
from store.types import Rows

MADE_WITH = "74cb1fbe"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

Signatures = NDArray[np.uint64]

BLOCK = 64  # behaviours that are marked at a time
PANEL = 32  # blocks that stay in the cache while all candidates are compared with them
SAMPLE = 16  # one of so many blocks is in the sample
SHORT = 1024  # behaviours that are not worth a sample
GROUPS = 6  # of the sample only the nearest of each group are looked at: so many groups for each that is looked for
PLACES = 1024  # for those within the distance, and two more for each of k


@njit(cache=True, nogil=True)
def pick(index: Rows, distance: NDArray[np.uint8], count: int, k: int, out: Rows) -> None:
    """The k nearest of `count` behaviours in time order, k in 1..count, ascending in `out`. Cost: 2 count."""
    counts = np.zeros(65, np.int64)
    for i in range(count):
        counts[distance[i]] += 1
    last, taken = 0, 0  # the distance at which the k-th stands, and how many are nearer than it
    while taken + counts[last] < k:
        taken += counts[last]
        last += 1
    ties = k - taken
    at = k
    for i in range(count - 1, -1, -1):  # newest first, so that ties go to the newer
        if distance[i] < last or (distance[i] == last and ties > 0):
            ties -= int(distance[i] == last)
            at -= 1
            out[at] = index[i] if len(index) else i


@njit(cache=True, nogil=True)
def nearest(target: np.uint64, signature: Signatures, k: int, distance: NDArray[np.uint8], out: Rows) -> None:
    """The k nearest of all, ascending in `out`. Cost: 3 L.

    Args:
        signature: uint64 [L]; k: 1..L; distance: uint8 [L], scratch; out: int32 [k].
    """
    for i in range(len(signature)):
        distance[i] = np.uint8(popcount(target ^ signature[i]))
    pick(out[:0], distance, len(signature), k, out)


@njit(cache=True, nogil=True)
def guess_distance(target: np.uint64, signature: Signatures, place: int, best: NDArray[np.uint64]) -> np.uint64:
    """The distance at `place` of a sample, or a little more. `best`: scratch, whole blocks."""
    for i in range(len(best)):
        best[i] = 64
    at = 0
    for block in range(0, len(signature) // BLOCK * BLOCK, SAMPLE * BLOCK):
        for i in range(BLOCK):
            distance = popcount(target ^ signature[block + i])
            best[at + i] = min(best[at + i], distance)
        at = at + BLOCK if at + BLOCK < len(best) else 0
    counts = np.zeros(65, np.int64)
    for distance in best:
        counts[distance] += 1
    guess, seen = 0, counts[0]
    while seen < place and guess < 64:
        guess += 1
        seen += counts[guess]
    return np.uint64(guess)


@njit(cache=True, nogil=True)
def nearest_of_all(targets: Signatures, signature: Signatures, k: int) -> Rows:
    """The k nearest for targets uint64 [C] among behaviours uint64 [L]: int32 [C, k], ascending in each row."""
    length, count = len(signature), len(targets)
    out = np.empty((count, k), np.int32)
    distance = np.empty(length, np.uint8)
    whole = length // BLOCK * BLOCK
    places = PLACES + 2 * k
    if length < SHORT or places >= length:
        for c in range(count):
            nearest(targets[c], signature, k, distance, out[c])
        return out
    expected = k / SAMPLE
    place = int(expected + 2.5 * np.sqrt(expected) + 2)
    best = np.empty(min(GROUPS * place // BLOCK + 1, whole // (BLOCK * SAMPLE) + 1) * BLOCK, np.uint64)
    limit = np.empty(count, np.uint64)
    for c in range(count):
        limit[c] = guess_distance(targets[c], signature, place, best)
    index, found = np.empty((count, places), np.int32), np.zeros(count, np.int64)
    for panel in range(0, whole, PANEL * BLOCK):
        for c in range(count):
            n = found[c]
            for first in range(panel, min(panel + PANEL * BLOCK, whole), BLOCK):
                hits = within(signature, first, targets[c], limit[c])
                while hits:
                    if n < places:
                        index[c, n] = first + lowest_bit(hits)
                    n += 1
                    hits &= hits - np.uint64(1)
            found[c] = n
    for c in range(count):
        n = found[c]
        for i in range(whole, length):
            if popcount(targets[c] ^ signature[i]) <= limit[c]:
                if n < places:
                    index[c, n] = i
                n += 1
        if k <= n <= places:
            for i in range(n):
                distance[i] = np.uint8(popcount(targets[c] ^ signature[index[c, i]]))
            pick(index[c], distance, n, k, out[c])
        else:
            nearest(targets[c], signature, k, distance, out[c])
    return out
