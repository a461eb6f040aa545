"""Which behaviours may be relevant enough: upper bounds by whole numbers, 32 behaviours and four candidates at a time."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.lanes import (
    LANES,
    add_dots,
    bits_of,
    count_from,
    float_of,
    floats_of,
    larger,
    load_floats,
    load_word,
    load_words,
    lowest_bit,
    not_below,
    store_floats,
    times_plus,
    to_floats,
    words_of,
)
from store.search.packing import PAIR, Words
from store.types import Floats, Rows

MADE_WITH = "b797d902"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

TILE = 4  # candidates that share a load of the keys
PANEL = 64  # pairs of blocks that stay in the cache while all candidates are compared with them
GROUPS = 6  # of the sample only the best of each group are looked at: so many groups for each that is looked for


@njit(cache=True, nogil=True)
def ordered(value: np.float32) -> np.uint32:
    """A float32 as an integer of the same order; -0 and 0 are equal."""
    bits = np.uint32(bits_of(np.float32(value + np.float32(0))))
    return np.uint32(~bits if bits & np.uint32(0x80000000) else bits | np.uint32(0x80000000))


@njit(cache=True, nogil=True)
def from_ordered(order: np.uint32) -> Any:
    """The float32 that has this place in the order."""
    return float_of(np.uint32(order ^ np.uint32(0x80000000) if order & np.uint32(0x80000000) else ~order))


@njit(cache=True, nogil=True)
def kth(values: Words, k: int, n: int, bits: int) -> np.uint32:
    """The k-th largest of the first n of uint32, k in 1..n, in its upper `bits`. Cost: bits * n / 16.

    The places up to the next multiple of sixteen are overwritten.
    """
    end = (n + LANES - 1) // LANES * LANES
    for i in range(n, end):
        values[i] = 0
    found = np.uint32(0)
    for bit in range(31, 31 - bits, -1):
        trial = np.uint32(found | np.uint32(1) << np.uint32(bit))
        count = 0
        for i in range(0, end, LANES):
            count += count_from(load_words(values, i), trial)
        if count >= k:
            found = trial
    return found


@njit(cache=True, nogil=True, forceinline=True)
def bound(
    dot0: Any, dot1: Any, scale0: Any, scale1: Any, bias0: Any, bias1: Any, step: Any, margin: Any, bounds: Floats, at: int
) -> None:
    """scale * (step * dot + margin) + bias, of one candidate and two blocks."""
    factor, summand = floats_of(step), floats_of(margin)
    store_floats(bounds, at, times_plus(scale0, times_plus(factor, to_floats(dot0), summand), bias0))
    store_floats(bounds, at + LANES, times_plus(scale1, times_plus(factor, to_floats(dot1), summand), bias1))


@njit(cache=True, nogil=True, forceinline=True)
def bounds_of_tile(
    words: Words, scale: Floats, bias: Floats, query: Any, start: Any, step: Any, margin: Any, c: int, b: int, bounds: Floats,
) -> None:  # fmt: skip
    """Upper bounds of relevance, float32 [4, 32]: four candidates from `c` on, 32 behaviours from block `b` on."""
    a0 = a1 = words_of(start[c])
    b0 = b1 = words_of(start[c + 1])
    c0 = c1 = words_of(start[c + 2])
    d0 = d1 = words_of(start[c + 3])
    count = words.shape[1]
    first, at = b * count * LANES, c * count
    for w in range(count):
        k0 = load_words(words, first + w * LANES)
        k1 = load_words(words, first + (count + w) * LANES)
        qa, qb = load_word(query, at + w), load_word(query, at + count + w)
        qc, qd = load_word(query, at + 2 * count + w), load_word(query, at + 3 * count + w)
        a0, a1 = add_dots(a0, k0, qa), add_dots(a1, k1, qa)
        b0, b1 = add_dots(b0, k0, qb), add_dots(b1, k1, qb)
        c0, c1 = add_dots(c0, k0, qc), add_dots(c1, k1, qc)
        d0, d1 = add_dots(d0, k0, qd), add_dots(d1, k1, qd)
    s0, s1 = load_floats(scale, b * LANES), load_floats(scale, b * LANES + LANES)
    o0, o1 = load_floats(bias, b * LANES), load_floats(bias, b * LANES + LANES)
    bound(a0, a1, s0, s1, o0, o1, step[c], margin[c], bounds, 0)
    bound(b0, b1, s0, s1, o0, o1, step[c + 1], margin[c + 1], bounds, PAIR)
    bound(c0, c1, s0, s1, o0, o1, step[c + 2], margin[c + 2], bounds, 2 * PAIR)
    bound(d0, d1, s0, s1, o0, o1, step[c + 3], margin[c + 3], bounds, 3 * PAIR)


@njit(cache=True, nogil=True)
def append(hits: np.uint64, first: int, length: int, bounds: Floats, at: int, index: Rows, upper: Floats, count: int) -> int:
    """Put the behaviours whose bits are set into a list; what has no place is only counted."""
    while hits:
        lane = lowest_bit(hits)
        hits &= hits - np.uint64(1)
        if first + lane < length:
            if count < len(index):
                index[count] = first + lane
                upper[count] = bounds[at + lane]
            count += 1
    return count


@njit(cache=True, nogil=True)
def reach(
    words: Words, scale: Floats, bias: Floats, query: NDArray[np.int32], start: Rows, step: Floats, margin: Floats, limit: Floats,
    length: int, index: Rows, upper: Floats, count: Rows,
) -> None:  # fmt: skip
    """Of one head, the behaviours whose upper bound is not below each candidate's limit, ascending. C is whole tiles.

    Args:
        words .. margin: see `packing`; limit: float32 [C]; written: index, upper: int32, float32 [C or fewer, places];
        count: int32 [C], more than there are places where the list is cut off.
    """
    bounds = np.empty(TILE * PAIR, np.float32)
    blocks = words.shape[0]
    for c in range(len(count)):
        count[c] = 0
    for panel in range(0, blocks, 2 * PANEL):
        for c in range(0, len(query), TILE):
            for b in range(panel, min(panel + 2 * PANEL, blocks), 2):
                bounds_of_tile(words, scale, bias, query, start, step, margin, c, b, bounds)
                for t in range(TILE):
                    least = floats_of(limit[c + t])
                    hits = not_below(load_floats(bounds, t * PAIR), least)
                    hits |= not_below(load_floats(bounds, t * PAIR + LANES), least) << np.uint64(LANES)
                    if hits and c + t < len(index):  # an infinite bias reaches even nobody's limit
                        count[c + t] = append(hits, b * LANES, length, bounds, t * PAIR, index[c + t], upper[c + t], count[c + t])


@njit(cache=True, nogil=True)
def guess_limits(
    words: Words, scale: Floats, bias: Floats, query: NDArray[np.int32], start: Rows, step: Floats, every: int,
    place: int, limit: Floats,
) -> None:  # fmt: skip
    """Each candidate's limit, written: what stands at `place` of a sample, every so many pairs; coarse, and rather low."""
    pairs = (words.shape[0] // 2 + every - 1) // every
    groups = min(pairs, max(1, GROUPS * place // PAIR))
    size = groups * PAIR
    best, value = np.empty((TILE, size), np.float32), np.empty(size, np.uint32)
    bounds, no_margin = np.empty(TILE * PAIR, np.float32), np.zeros(len(query), np.float32)
    for c in range(0, len(limit), TILE):
        for t in range(TILE):
            for i in range(size):
                best[t, i] = -np.inf
        for p in range(pairs):
            bounds_of_tile(words, scale, bias, query, start, step, no_margin, c, 2 * p * every, bounds)
            for t in range(TILE):
                at = t * size + p % groups * PAIR
                for half in range(0, PAIR, LANES):
                    store_floats(best, at + half, larger(load_floats(best, at + half), load_floats(bounds, t * PAIR + half)))
        for t in range(TILE):
            for i in range(size):
                value[i] = ordered(best[t, i])
            limit[c + t] = from_ordered(kth(value, min(place, size), size, 16))
