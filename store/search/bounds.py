"""Which items may be relevant enough: upper bounds by whole numbers, 32 items and four candidates at a time."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.bits import lowest_bit, popcount
from store.search.lanes import (
    LANES,
    add_dots,
    bits_of,
    count_from,
    float_of,
    floats_of,
    larger,
    load_float,
    load_floats,
    load_word,
    load_words,
    not_below,
    store,
    times_plus,
    to_floats,
    words_of,
)
from store.search.packing import PAIR, Words
from store.types import Floats, Rows

MADE_WITH = "be204929"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

TILE = 4  # candidates that share a load of the keys
PANEL = 64  # pairs of blocks that stay in the cache while all candidates are compared with them
GROUPS = 6  # of the sample only the best of each group are looked at: so many groups for each that is looked for


@njit(cache=True, nogil=True, _nrt=False)
def ordered(value: np.float32) -> np.uint32:
    """A float32 as an integer of the same order; -0 and 0 are equal."""
    bits = np.uint32(bits_of(np.float32(value + np.float32(0))))
    return np.uint32(~bits if bits & np.uint32(0x80000000) else bits | np.uint32(0x80000000))


@njit(cache=True, nogil=True, _nrt=False)
def from_ordered(order: np.uint32) -> Any:
    """The float32 that has this place in the order."""
    return float_of(np.uint32(order ^ np.uint32(0x80000000) if order & np.uint32(0x80000000) else ~order))


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def first_bits(count: int) -> Any:
    """So many bits set, sixteen at most."""
    return (np.uint64(1) << np.uint64(min(count, LANES))) - np.uint64(1)


@njit(cache=True, nogil=True, _nrt=False)
def kth(values: Words, k: int, n: int, bits: int) -> np.uint32:
    """What the k largest of the first n of uint32 reach, k in 1..n, and no other where they are not equal; or less, if that
    is not in its upper `bits`. Cost: (bits + 1) * n / 16 at most, less where the values have their first bits in common. The
    places up to the next multiple of sixteen are overwritten.
    """
    all_have, one_has = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(n):
        all_have, one_has = np.uint32(all_have & values[i]), np.uint32(one_has | values[i])
    end = (n + LANES - 1) // LANES * LANES
    for i in range(n, end):
        values[i] = 0
    bit = 31
    while bit >= 0 and (all_have ^ one_has) >> np.uint32(bit) == 0:
        bit -= 1
    found = np.uint32(np.uint64(all_have) >> np.uint64(bit + 1) << np.uint64(bit + 1))
    for lower in range(bit, 31 - bits, -1):
        trial = np.uint32(found | np.uint32(1) << np.uint32(lower))
        count = 0
        for i in range(0, end, LANES):
            count += count_from(load_words(values, i), trial)
        if count >= k:
            found = trial
        if count == k:
            break
    return found


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def dots_of_tile(words: Any, count: int, query: Any, start: Any, c: int, b: int) -> Any:
    """Whole-number dot products int32 [4] x [32]: four candidates from `c` on, two blocks of items from `b` on."""
    a0 = a1 = words_of(load_word(start, c))
    b0 = b1 = words_of(load_word(start, c + 1))
    c0 = c1 = words_of(load_word(start, c + 2))
    d0 = d1 = words_of(load_word(start, c + 3))
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
    return (a0, a1), (b0, b1), (c0, c1), (d0, d1)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def bound(dot: Any, scale: Any, bias: Any, step: Any, margin: Any) -> Any:
    """scale * (step * dot + margin) + bias, of one candidate and sixteen items."""
    return times_plus(scale, times_plus(floats_of(step), to_floats(dot), floats_of(margin)), bias)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def reached(dots: Any, scales: Any, biases: Any, step: Any, margin: Any, limit: Any, c: Any) -> Any:
    """Bit j of the answer: the upper bound of the j-th of 32 items is not below the limit of candidate `c`."""
    factor, summand = load_float(step, c), load_float(margin, c)
    first = bound(dots[0], scales[0], biases[0], factor, summand)
    return not_below(first, bound(dots[1], scales[1], biases[1], factor, summand), load_float(limit, c))


@njit(cache=True, nogil=True, _nrt=False)
def reach(
    words: Words, scale: Floats, bias: Floats, query: NDArray[np.int32], start: Rows, step: Floats, margin: Floats, limit: Floats,
    marks: Words,
) -> None:  # fmt: skip
    """Of one head, the items whose upper bound is not below each candidate's limit. C is whole tiles.

    A bit for each item, set or not: to put an item into a list as soon as it is found costs a branch that is hard to foresee.

    Args:
        words .. margin: see `packing`; limit: float32 [C]; written: marks: uint32 [C, D / 32], bit i of a row for item i.
    """
    blocks, word_count, _ = words.shape
    for panel in range(0, blocks, 2 * PANEL):
        for c in range(0, len(query), TILE):
            for b in range(panel, min(panel + 2 * PANEL, blocks), 2):
                dots = dots_of_tile(words, word_count, query, start, c, b)
                s = load_floats(scale, b * LANES), load_floats(scale, b * LANES + LANES)
                o = load_floats(bias, b * LANES), load_floats(bias, b * LANES + LANES)
                marks[c, b // 2] = reached(dots[0], s, o, step, margin, limit, c)
                marks[c + 1, b // 2] = reached(dots[1], s, o, step, margin, limit, c + 1)
                marks[c + 2, b // 2] = reached(dots[2], s, o, step, margin, limit, c + 2)
                marks[c + 3, b // 2] = reached(dots[3], s, o, step, margin, limit, c + 3)


@njit(cache=True, nogil=True, _nrt=False)
def list_marked(marks: Words, length: int, out: Rows) -> int:
    """The items below `length` whose bits are set, ascending in `out`, which has room for two more; how many they are.

    Cost: what two of 32 items take, without a branch; more where more are set.
    """
    count: Any = 0
    marks[len(marks) - 1] &= np.uint32(0xFFFFFFFF) >> np.uint32(len(marks) * PAIR - length)
    for w in range(len(marks)):
        left, at, found = np.uint64(marks[w]), count, np.int32(w * PAIR)
        count += np.int64(popcount(left))
        for _ in range(2):
            out[at] = found + np.int32(lowest_bit(left))
            left &= left - np.uint64(1)
            at += 1
        while left:
            out[at] = found + np.int32(lowest_bit(left))
            left &= left - np.uint64(1)
            at += 1
    return int(count)


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def raise_to(best: Any, at: Any, value0: Any, value1: Any) -> None:
    """The larger of what stands there and of the values, 32 times."""
    store(best, at, larger(load_floats(best, at), value0))
    store(best, at + LANES, larger(load_floats(best, at + LANES), value1))


@njit(cache=True, nogil=True, _nrt=False)
def guess_limits(
    words: Words, scale: Floats, bias: Floats, query: NDArray[np.int32], start: Rows, step: Floats, every: int,
    place: int, limit: Floats, best: Floats, value: Words,
) -> None:  # fmt: skip
    """Each candidate's limit, written: what stands at `place` of a sample, every so many pairs; coarse, and rather low.

    `best`: float32 [4 x D], `value`: uint32 [D], D rounded up to whole pairs: scratch.
    """
    pairs = (words.shape[0] // 2 + every - 1) // every
    groups = min(pairs, max(1, GROUPS * place // PAIR))
    size = groups * PAIR
    none, word_count = np.float32(0), words.shape[1]  # no margin: as it is, not at most
    for c in range(0, len(limit), TILE):
        for t in range(TILE):
            for i in range(size):
                best[t * size + i] = -np.inf
        step0, step1, step2, step3 = step[c], step[c + 1], step[c + 2], step[c + 3]
        for p in range(pairs):
            b = 2 * p * every
            dots = dots_of_tile(words, word_count, query, start, c, b)
            s0, s1 = load_floats(scale, b * LANES), load_floats(scale, b * LANES + LANES)
            o0, o1 = load_floats(bias, b * LANES), load_floats(bias, b * LANES + LANES)
            at = p % groups * PAIR
            raise_to(best, at, bound(dots[0][0], s0, o0, step0, none), bound(dots[0][1], s1, o1, step0, none))
            raise_to(best, at + size, bound(dots[1][0], s0, o0, step1, none), bound(dots[1][1], s1, o1, step1, none))
            raise_to(best, at + 2 * size, bound(dots[2][0], s0, o0, step2, none), bound(dots[2][1], s1, o1, step2, none))
            raise_to(best, at + 3 * size, bound(dots[3][0], s0, o0, step3, none), bound(dots[3][1], s1, o1, step3, none))
        for t in range(TILE):
            for i in range(size):
                value[i] = ordered(best[t * size + i])
            limit[c + t] = from_ordered(kth(value, min(place, size), size, 16))
