"""The relevance that decides: dot products of float32, summed in one fixed order, and last the behaviour's own bias.

The order: sixteen sums, of every sixteenth product; then the upper half of them is added to the lower, until one is left.
It depends on nothing but the width, so a relevance is the same whatever else is searched, and equal items tie to the last bit.
"""

from typing import Any

import numpy as np
from numba import njit

from store.search.bounds import first_bits
from store.search.lanes import (
    LANES,
    at_least,
    bits_of,
    fetch,
    floats_of,
    in_order,
    load_first,
    load_float,
    load_floats,
    load_word,
    load_words,
    plus,
    store,
    store_marked,
    sum_of,
    times,
)
from store.search.packing import AHEAD, Words
from store.types import Floats, Rows

MADE_WITH = "07b8dbbf"  # of the files whose kernels it calls: tests/store/search/test_compiled.py


@njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def dot(query: Any, table: Any, q: int, t: int, width: int) -> Any:
    """Of `width` numbers from place `q` of an array and from place `t` of another one on."""
    if width < LANES:
        return sum_of(times(load_first(query, q, width), load_first(table, t, width)))
    total, d = times(load_floats(query, q), load_floats(table, t)), LANES
    while d + LANES <= width:
        total = plus(total, times(load_floats(query, q + d), load_floats(table, t + d)))
        d += LANES
    if d < width:
        total = plus(total, times(load_first(query, q + d, width - d), load_first(table, t + d, width - d)))
    return sum_of(total)


@njit(cache=True, nogil=True, _nrt=False)
def score(
    query: Floats, keys: Floats, row: Rows, highest: Floats, c: int, h: int, least: Any, reached: Rows, count: int,
    product: Floats, best: Words,
) -> Any:  # fmt: skip
    """Leave in `reached` the items that have a behaviour whose relevance is not below `least`; how many there are.

    Args:
        query: float32 [C, H, d_k]; keys: float32 [N, H, d_k], those of item d in `row[d]`; highest: float32 [D], the
        largest bias of the head for each item; reached: int32, `count` items; written: product: float32, their dot
        products; best: uint32, the largest relevance of each, as `ordered` has it. The last three have room for sixteen more.
    """
    _, heads, width = query.shape
    q = (c * heads + h) * width
    for i in range(count, count + AHEAD):
        reached[i] = 0  # somebody, who is fetched for nothing
    for i in range(count):
        later = (np.int64(load_word(row, load_word(reached, i + AHEAD))) * heads + h) * width
        for d in range(0, width, LANES):
            fetch(keys, later + d)
        item = load_word(reached, i)
        found = dot(query, keys, q, (np.int64(load_word(row, item)) * heads + h) * width, width)
        product[i], best[i] = found, bits_of(found + load_float(highest, item))
    for i in range(0, count, LANES):
        store(best, i, in_order(load_floats(best, i)))
    return leave_from(least, reached, product, best, count)


@njit(cache=True, nogil=True, _nrt=False)
def leave_from(least: Any, items: Rows, product: Floats, best: Words, count: int) -> int:
    """Leave the items with a behaviour whose relevance is not below `least`; how many there are."""
    kept: Any = 0
    for i in range(0, count, LANES):
        item, found, top = load_words(items, i), load_floats(product, i), load_words(best, i)
        marks = at_least(top, least) & first_bits(count - i)
        store_marked(items, kept, item, marks)
        store_marked(product, kept, found, marks)
        kept += store_marked(best, kept, top, marks)
    return int(kept)


@njit(cache=True, nogil=True, _nrt=False)
def spread(
    items: Rows, product: Floats, count: int, start: Rows, member: Rows, own: Floats, least: Any, index: Rows, value: Words
) -> int:
    """The behaviours of items whose relevance is not below `least`; how many there are.

    Args:
        items, product: `count` items and their dot products; start, member: see `distinct`; own: float32 [L], the
        head's biases in the order of `member`; written: index: int32, the behaviours; value: uint32, their relevances. The
        last four have room for sixteen more.
    """
    kept = 0
    for i in range(count):
        item, found = np.int64(load_word(items, i)), floats_of(product[i])
        j, end = np.int64(load_word(start, item)), np.int64(load_word(start, item + 1))
        while j < end:
            relevance = in_order(plus(load_floats(own, j), found))
            marks = at_least(relevance, least) & first_bits(int(end - j))
            store_marked(index, kept, load_words(member, j), marks)
            kept += store_marked(value, kept, relevance, marks)
            j += LANES
    return kept
