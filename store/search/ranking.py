"""Which of the scored behaviours are kept, and in which order. Equal relevance: the newer wins."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.bits import lowest_bit
from store.search.bounds import first_bits, kth
from store.search.lanes import LANES, at_least, count_from, load_word, load_words, store_marked
from store.search.packing import Words
from store.types import Rows

MADE_WITH = "6738fd17"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

Marks = NDArray[np.uint64]


@njit(cache=True, nogil=True, _nrt=False)
def leave_best(index: Rows, value: Words, count: int, k: int, scratch: Words) -> Any:
    """Leave the k best of `count`, k in 1..count, in no order; the least of their values.

    Args:
        index: int32, different places in the life; value: uint32, relevances as `ordered` has them; scratch: uint32;
        all with room for a multiple of sixteen.
    """
    least = kth(value, k, count, 32)
    reached: Any = 0
    for i in range(0, count, LANES):
        places, relevances = load_words(index, i), load_words(value, i)
        marks = at_least(relevances, least) & first_bits(count - i)
        store_marked(index, reached, places, marks)
        reached += store_marked(value, reached, relevances, marks)
    if reached == k:
        return least
    tied, ties = 0, k
    for i in range(reached):
        ties -= int(value[i] > least)
        scratch[tied] = np.uint32(index[i])
        tied += int(value[i] == least)
    newest = kth(scratch, ties, tied, 32) if ties < tied else np.uint32(0)
    kept = 0
    for i in range(reached):
        place, relevance = index[i], value[i]
        index[kept], value[kept] = place, relevance
        kept += int(relevance > least) | (int(relevance == least) & int(np.uint32(place) >= newest))
    return least


@njit(cache=True, nogil=True, _nrt=False)
def rank(index: Rows, value: Words, count: int, out: Rows, level: Words) -> None:
    """All of them, best first, in `out`, and their values in `level`. Arguments as of `leave_best`. Cost: count^2 / 16."""
    end = (count + LANES - 1) // LANES * LANES
    for i in range(count, end):
        value[i] = 0
    for i in range(count):
        out[i] = -1
    for i in range(count):
        at, new = -1, index[i]
        for j in range(0, end, LANES):
            at += count_from(load_words(value, j), value[i])
        at = min(at, count - 1)
        while out[at] >= 0:  # an equal one stands here: the older stays, the newer goes on
            if out[at] > new:
                out[at], new = new, out[at]
            at -= 1
        out[at], level[at] = new, value[i]


@njit(cache=True, nogil=True, _nrt=False)
def take_marked(marks: Marks, length: int, out: Rows) -> None:
    """The places that are marked, ascending in `out`; then none is. Cost: length / 4096, and what is marked.

    Bit i of `marks` stands for place i, and its last words, from the end, say which of the others are not 0.
    """
    at = 0
    for group in range((length + 4095) // 4096):
        words = marks[len(marks) - 1 - group]
        marks[len(marks) - 1 - group] = 0
        while words:
            word = group * 64 + lowest_bit(words)
            words &= words - np.uint64(1)
            left = marks[word]
            marks[word] = 0
            while left:
                out[at] = word * 64 + lowest_bit(left)
                at += 1
                left &= left - np.uint64(1)


@njit(cache=True, nogil=True, _nrt=False)
def ascending(index: Rows, count: int, marks: Marks, length: int, out: Rows) -> None:
    """So many different places of a life in time order."""
    for i in range(count):
        place = np.int64(load_word(index, i))
        marks[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
        marks[len(marks) - 1 - (place >> 12)] |= np.uint64(1) << np.uint64((place >> 6) & 63)
    take_marked(marks, length, out)


@njit(cache=True, nogil=True, _nrt=False)
def take_in_turn(ranking: Rows, ranked: Any, k: int, marks: Marks, length: int, out: Rows) -> Any:
    """Round robin over the heads' lists until k different behaviours are together, ascending in `out`.

    Returns:
        the head whose list was too short, or -1; how many places of the lists were looked at.
    """
    count, depth, short = 0, 0, -1
    while count < k and short < 0:
        for h in range(len(ranked)):
            if count < k and short < 0:
                if depth < ranked[h]:
                    word, bit = ranking[h, depth] >> 6, np.uint64(1) << np.uint64(ranking[h, depth] & 63)
                    count += int((marks[word] & bit) == 0)
                    marks[word] |= bit
                    marks[len(marks) - 1 - (word >> 6)] |= np.uint64(1) << np.uint64(word & 63)
                else:
                    short = h
        depth += 1
    take_marked(marks, length, out)
    return short, depth
