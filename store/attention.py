"""Attend (ESU) in lists: each candidate's queries over its own list of behaviours, on one core, nothing gathered.

    pooled[c, h] = sum_k softmax_k(query[h, c] . behaviour[k]) behaviour[k]        k in the list of c
    behaviour[k] = [item[row[k]]; side[side_row[k]]]

A graph has to write out what each candidate retrieved before it can multiply with it: 500 lists of 100 behaviours are
15 MB, written once and read twice. Here a row of the table of items is read where it is, and many lists have it:
it stays in the cache. What the heads pooled is projected by W_v before it leaves the cache, or, where there is none, comes
side by side as the layers after it read it, and the mean over heads with it: in a graph each would be a pass of its own.
Sums are of float32, in an order of its own: results differ from a graph's by rounding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.across import FOUR, most_of_each_row, store_sums, sum_of_each_row
from store.search.exponential import exponential, over
from store.search.lanes import (
    LANES,
    fetch_early,
    floats_of,
    larger,
    load_first,
    load_float,
    load_floats,
    load_word,
    plus,
    store,
    store_first,
    times,
    times_plus,
)
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "2250ac7b"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

LOWEST = np.float32(-3e38)  # below every relevance

QUERY, ITEM, SIDE, SIDE_OF_GAP, VALUE = "query", "item", "side", "side_of_gap", "value"  # what the graph before makes

WORKSPACE = Workspace()

Arrays = dict[str, NDArray[Any]]
Places = NDArray[np.int64]
Before = Callable[[Arrays], Arrays]
After = Callable[[Arrays], list[NDArray[Any]]]


def attend_in_lists(
    before: Before, after: After, inputs: Arrays, item_vector: Floats, weighs: bool = False
) -> tuple[Floats, Floats | None]:
    """Logits float32 [1, C] of a request in lists (`graph_inputs.py`), and on demand the weights.

    Args:
        before: runs the graph that makes, by name, `query` [1, 1, H, C, D + E], and of behaviours what stands beside an item's
        vector: `side` [1, 1, T, ..] of each, or `side_of_gap` [buckets, ..], which `retrieved_gap` is of; where an item's vector
        is not the table's, `item` [1, 1, T, ..] too. Their widths are E and D, made up with zeros to multiples of 16. Where
        there is a W_v, `value` [H, D + E, V].
        after: the one that makes `logit` of the inputs, of `pooled` [1, 1, C, H * V], or [1, 1, C, H * D + H * E] without W_v,
        and of `pooled_item` [1, 1, C, D].
        item_vector: float32 [N, D] that `retrieved_row` is of.

    Returns:
        the weights as of `attend`, None if they are not asked for.
    """
    made = before(inputs)
    query, each = made[QUERY][0, 0], np.arange(inputs["retrieved_row"].shape[2], dtype=np.int32)
    item, row = (made[ITEM][0, 0], each) if ITEM in made else (item_vector, inputs["retrieved_row"][0, 0])
    side, side_row = (made[SIDE][0, 0], each) if SIDE in made else (made[SIDE_OF_GAP], inputs["retrieved_gap"][0, 0])
    lists = inputs["list_index"], inputs["list_size"], inputs["list_of"]
    dim = item_vector.shape[1]
    pooled, pooled_item, weight = attend(query, dim, item, row, side, side_row, *lists, made.get(VALUE), weighs)
    (logit,) = after(inputs | {"pooled": pooled[None, None], "pooled_item": pooled_item[None, None]})
    return logit, weight


def attend(
    query: Floats, dim: int, item: Floats, row: Rows, side: Floats, side_row: Rows, list_index: Rows, list_size: Rows,
    list_of: Rows, value: Floats | None = None, weighs: bool = False,
) -> tuple[Floats, Floats, Floats | None]:  # fmt: skip
    """Attend to lists of behaviours, whose vectors are keys and values in one: their item's, and what stands beside it.

    Args:
        query: float32 [H, C, D + E], scaled already. dim: D.
        item: float32 [N, ..]; row: int32 [T], within N; side: float32 [B, ..]; side_row: int32 [T], within B. Their widths are
        D and E made up to multiples of 16, by what does not count; E may be 0.
        list_index: int32 [lists, K], within T; list_size: int32 [lists], the first so many are real; list_of: int32 [C].
        value: float32 [H, D + E, V], W_v of each head; None: the values are the vectors themselves.

    Returns:
        what the heads pooled times W_v, float32 [C, H * V], or as it is, [C, H * D + H * E], the items of all heads and then the
        sides, zeros where a list is empty; the mean of the items over heads, float32 [C, D]; float32 [C, K], the mean over
        heads of what each behaviour weighs, zeros at padding, None if not asked for.

    Cost: 500 x 100 behaviours of 4 heads and width 80 about 1.2 ms.
    """
    heads, candidates, width = query.shape
    beside = width - dim
    if (item.shape[1], side.shape[1]) != (dim + -dim % LANES, beside + -beside % LANES):
        raise ValueError(
            f"queries of width {width} for items of {dim} and {beside} beside them, made up to multiples of {LANES}: "
            f"vectors of {item.shape[1]} and {side.shape[1]}"
        )
    for rows, table in ((row, item), (side_row, side)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(table):  # the kernel reads there without looking
            raise ValueError(f"rows {rows.min()} to {rows.max()} of a table of {len(table)}")
    if value is None:
        value = np.empty((heads, width, 0), np.float32)
    if value.shape[:2] != (heads, width):
        raise ValueError(f"values of {value.shape[0]} heads and width {value.shape[1]} for queries of {heads} and {width}")
    pooled = np.empty((candidates, heads * (value.shape[2] or width)), np.float32)
    pooled_item = np.empty((candidates, dim), np.float32)
    weight = np.zeros((candidates if weighs else 0, list_index.shape[1]), np.float32)
    places = list_index.shape[1]
    of_all = item.shape[1] + side.shape[1]
    share, asked, found, begins = WORKSPACE.arrays(
        ("f4", (FOUR * (places + LANES),)), ("f4", (FOUR, of_all)), ("f4", (FOUR * heads, of_all)), ("i8", (2, 2, places))
    )
    vectors = (read_only(array) for array in (query, item, row, side, side_row))
    by_list = np.argsort(list_of, kind="stable").astype(np.int32)  # who shares a list finds its vectors in the nearest cache
    lists = (read_only(array) for array in (list_index, list_size, list_of, by_list))
    attend_each(*vectors, *lists, read_only(value), begins, asked, share, found, pooled, pooled_item, weight)
    return pooled, pooled_item, weight if weighs else None


def numbered(index: Rows, size: Rows, length: int) -> tuple[Rows, Rows]:
    """The different behaviours of all lists, int32 [T] ascending, and the lists with places among them, int32 [lists, K].

    Args:
        index: int32 [lists, K] into `length` behaviours, of which the first `size` of each list are real.

    Without any there is T = 1, place 0. Cost: O(length + lists x K), 0.1 ms.
    """
    (rank,) = WORKSPACE.arrays(("i4", (max(length, 1),)))
    kept, places = np.zeros(max(length, 1) + 1, np.int32), np.zeros_like(index)
    count = number(read_only(index), read_only(size), rank, kept, places)
    return kept[: max(count, 1)], places


@njit(cache=True, nogil=True, _nrt=False)
def number(index: Rows, size: Rows, rank: Rows, kept: Rows, places: Rows) -> int:
    """`numbered`, with arrays to write to: `rank` as long as the life, `kept` one longer."""
    rank[:] = 0
    for i in range(len(index)):
        for j in range(size[i]):
            rank[index[i, j]] = 1
    count = 0
    for i in range(len(rank)):
        kept[count] = i
        wanted = rank[i]
        rank[i] = count
        count += wanted
    for i in range(len(index)):
        for j in range(size[i]):
            places[i, j] = rank[index[i, j]]
    if count == 0:
        kept[0] = 0
    return count


@njit(cache=True, nogil=True, _nrt=False)
def attend_each(
    query: Floats, item: Floats, row: Rows, side: Floats, side_row: Rows,
    list_index: Rows, list_size: Rows, list_of: Rows, by_list: Rows, value: Floats,
    begins: Places, asked: Floats, share: Floats, found: Floats, pooled: Floats, pooled_item: Floats, weight: Floats,
) -> None:  # fmt: skip
    """`attend`, with arrays to write to; without W_v `value` has no last axis.

    `begins`: int64 [2, 2, K], where vectors begin, of two lists; `asked`: float32 [4, ..], four heads' queries as wide as the
    vectors; `share`: float32 [4 (K + 16)], four heads side by side; `found`: float32 [4 H, ..], what the heads
    pooled for four candidates, as wide.
    """
    heads, candidates, width = query.shape
    dim, places = pooled_item.shape[1], list_index.shape[1]
    if candidates == 0:
        return
    own = np.int64(load_word(list_of, load_word(by_list, 0)))
    begin, which, size = 0, 0, np.int64(load_word(list_size, own))
    locate(item, row, side, side_row, list_index, own * places, size, begins[0])
    while begin < candidates:
        end = begin + 1
        while end < candidates and np.int64(load_word(list_of, load_word(by_list, end))) == own:
            end += 1
        next_size = np.int64(0)
        if end < candidates:
            own = np.int64(load_word(list_of, load_word(by_list, end)))
            next_size = np.int64(load_word(list_size, own))
            locate(item, row, side, side_row, list_index, own * places, next_size, begins[1 - which])
        item_at, side_at = begins[which, 0], begins[which, 1]
        for n in range(begin, end):
            c, slot = np.int64(load_word(by_list, n)), n % FOUR if value.shape[2] else 0
            to = slot * heads * found.shape[1]
            for h in range(0, heads, FOUR):
                for i in range(FOUR):
                    at = (min(h + i, heads - 1) * candidates + c) * width
                    ask(query, at, dim, width, asked, i * asked.shape[1], item.shape[1])
                relate(asked, item, side, item_at, side_at, size, share, begins[1 - which], next_size)
                next_size = np.int64(0)
                spread(share, size)
                pool(item, item_at, size, share, found, to, h, heads)
                pool(side, side_at, size, share, found, to + item.shape[1], h, heads)
                if len(weight):
                    for head in range(min(heads - h, FOUR)):
                        for j in range(size):
                            weight[c, j] += share[FOUR * j + head] / np.float32(heads)
            average(found, to, heads, dim, pooled_item, c * dim)
            if value.shape[2] == 0:
                lay_side_by_side(found, to, item.shape[1], heads, dim, width - dim, pooled, c * pooled.shape[1])
            elif slot == FOUR - 1 or n == candidates - 1:
                project(found, item.shape[1], dim, value, by_list, n - slot, slot + 1, pooled)
        begin, which, size = end, 1 - which, np.int64(load_word(list_size, own))


@njit(cache=True, nogil=True, _nrt=False)
def locate(
    item: Floats, row: Rows, side: Floats, side_row: Rows, list_index: Rows, first: Any, size: Any, begins: Places
) -> None:
    """Where the vectors of a list begin: of items, and of what stands beside them."""
    for j in range(size):
        one = np.int64(load_word(list_index, first + j))
        begins[0, j] = np.int64(load_word(row, one)) * item.shape[1]
        begins[1, j] = np.int64(load_word(side_row, one)) * side.shape[1]


@njit(cache=True, nogil=True, _nrt=False)
def ask(query: Floats, at: Any, dim: int, width: int, asked: Floats, to: Any, sides: int) -> None:
    """A query as wide as the vectors: zeros behind the item's part, and behind the side's."""
    for d in range(0, dim, LANES):
        store(asked, to + d, load_first(query, at + d, dim - d))
    for d in range(0, width - dim, LANES):
        store(asked, to + sides + d, load_first(query, at + dim + d, width - dim - d))


@njit(cache=True, nogil=True, _nrt=False)
def relate(
    asked: Floats, item: Floats, side: Floats, item_at: Places, side_at: Places, size: Any, share: Floats, next_begins: Places,
    next_size: Any,
) -> None:  # fmt: skip
    """Dot products of four heads with a list's behaviours, into `share`: of two behaviours at a time, for what is asked is read
    once for both. Meanwhile the first `next_size` vectors of the next list are asked for, a few at a time."""
    for j in range(0, size, 2):
        second = min(j + 1, size - 1)
        zero = floats_of(np.float32(0))
        sums = zero, zero, zero, zero, zero, zero, zero, zero
        sums = dots(asked, 0, item, item_at[j], item_at[second], sums)
        sums = dots(asked, item.shape[1], side, side_at[j], side_at[second], sums)
        store_sums(share, FOUR * j, sums[0], sums[1], sums[2], sums[3])
        store_sums(share, FOUR * j + FOUR, sums[4], sums[5], sums[6], sums[7])
        for i in range(j, min(j + 2, next_size)):
            for d in range(0, item.shape[1], LANES):
                fetch_early(item, next_begins[0, i] + d)
            for d in range(0, side.shape[1], LANES):
                fetch_early(side, next_begins[1, i] + d)


@njit(cache=True, nogil=True, _nrt=False)
def dots(asked: Floats, behind: int, vectors: Floats, first: Any, second: Any, sums: Any) -> Any:
    """`sums` and the products of four heads, `behind` so many numbers of each, with two vectors."""
    sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7 = sums
    width = asked.shape[1]
    for d in range(0, vectors.shape[1], LANES):
        one, other = load_floats(vectors, first + d), load_floats(vectors, second + d)
        of_head = load_floats(asked, behind + d)
        sum0, sum4 = times_plus(of_head, one, sum0), times_plus(of_head, other, sum4)
        of_head = load_floats(asked, behind + d + width)
        sum1, sum5 = times_plus(of_head, one, sum1), times_plus(of_head, other, sum5)
        of_head = load_floats(asked, behind + d + 2 * width)
        sum2, sum6 = times_plus(of_head, one, sum2), times_plus(of_head, other, sum6)
        of_head = load_floats(asked, behind + d + 3 * width)
        sum3, sum7 = times_plus(of_head, one, sum3), times_plus(of_head, other, sum7)
    return sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7


@njit(cache=True, nogil=True, _nrt=False)
def spread(share: Floats, size: Any) -> None:
    """Softmax of each head's numbers for the first `size` behaviours; those up to the next sixteen are overwritten."""
    end = FOUR * ((size + LANES - 1) // LANES * LANES)
    for place in range(FOUR * size, end):
        share[place] = LOWEST
    most, zero = floats_of(LOWEST), floats_of(np.float32(0))
    for place in range(0, end, LANES):
        most = larger(most, load_floats(share, place))
    below = times(most_of_each_row(most), floats_of(np.float32(-1)))
    total0, total1, total2, total3 = zero, zero, zero, zero
    for place in range(0, end, FOUR * LANES):
        total0 = plus(total0, raised(share, place, below))
        total1 = plus(total1, raised(share, place + LANES, below))
        total2 = plus(total2, raised(share, place + 2 * LANES, below))
        total3 = plus(total3, raised(share, place + 3 * LANES, below))
    part = over(sum_of_each_row(plus(plus(total0, total2), plus(total1, total3))))
    for place in range(0, end, LANES):
        store(share, place, times(load_floats(share, place), part))


@njit(cache=True, nogil=True, _nrt=False)
def raised(share: Floats, place: Any, below: Any) -> Any:
    """e to the power of what stands there and of `below`; it stands there then."""
    power = exponential(plus(load_floats(share, place), below))
    store(share, place, power)
    return power


@njit(cache=True, nogil=True, _nrt=False)
def pool(vectors: Floats, vector_at: Places, size: Any, share: Floats, found: Floats, to: Any, head: int, heads: int) -> None:
    """What four heads from `head` on have of a list's vectors, a row of `found` for each, from place `to` of the first head's
    on: sixteen numbers at a time."""
    width, last = found.shape[1], heads - 1
    for d in range(0, vectors.shape[1], LANES):
        zero = floats_of(np.float32(0))
        sum0, sum1, sum2, sum3 = zero, zero, zero, zero
        for j in range(size):
            vector = load_floats(vectors, vector_at[j] + d)
            sum0 = times_plus(floats_of(load_float(share, FOUR * j)), vector, sum0)
            sum1 = times_plus(floats_of(load_float(share, FOUR * j + 1)), vector, sum1)
            sum2 = times_plus(floats_of(load_float(share, FOUR * j + 2)), vector, sum2)
            sum3 = times_plus(floats_of(load_float(share, FOUR * j + 3)), vector, sum3)
        at = to + d
        store(found, at + head * width, sum0)
        store(found, at + min(head + 1, last) * width, sum1)  # beyond the last head is that one again
        store(found, at + min(head + 2, last) * width, sum2)
        store(found, at + min(head + 3, last) * width, sum3)


@njit(cache=True, nogil=True, _nrt=False)
def project(found: Floats, sides: int, dim: int, value: Floats, who: Rows, first: Any, count: int, pooled: Floats) -> None:
    """Times W_v what the heads pooled for `count` of `who` from place `first` on, four at most: W_v is read once for them.
    Sides stand `sides` numbers behind the items."""
    heads, width, wide = value.shape
    last, of_each = count - 1, heads * found.shape[1]
    second, third, fourth = min(1, last), min(2, last), min(3, last)  # beyond the last is that one again
    for h in range(heads):
        for v in range(0, wide, LANES):
            left, zero = wide - v, floats_of(np.float32(0))
            sum0, sum1, sum2, sum3 = zero, zero, zero, zero
            for d in range(width):
                row = load_first(value, (h * width + d) * wide + v, left)
                at = h * found.shape[1] + (d if d < dim else sides + d - dim)
                sum0 = times_plus(floats_of(load_float(found, at)), row, sum0)
                sum1 = times_plus(floats_of(load_float(found, at + second * of_each)), row, sum1)
                sum2 = times_plus(floats_of(load_float(found, at + third * of_each)), row, sum2)
                sum3 = times_plus(floats_of(load_float(found, at + fourth * of_each)), row, sum3)
            to = h * wide + v
            store_first(pooled, np.int64(load_word(who, first)) * heads * wide + to, sum0, left)
            store_first(pooled, np.int64(load_word(who, first + second)) * heads * wide + to, sum1, left)
            store_first(pooled, np.int64(load_word(who, first + third)) * heads * wide + to, sum2, left)
            store_first(pooled, np.int64(load_word(who, first + fourth)) * heads * wide + to, sum3, left)


@njit(cache=True, nogil=True, _nrt=False)
def lay_side_by_side(found: Floats, at: Any, sides: int, heads: int, dim: int, beside: int, pooled: Floats, to: Any) -> None:
    """What the heads pooled, from place `at` on, to place `to` and behind it: their items, then their sides."""
    for h in range(heads):
        own = at + h * found.shape[1]
        for d in range(0, dim, LANES):
            store_first(pooled, to + h * dim + d, load_floats(found, own + d), dim - d)
        for d in range(0, beside, LANES):
            store_first(pooled, to + heads * dim + h * beside + d, load_floats(found, own + sides + d), beside - d)


@njit(cache=True, nogil=True, _nrt=False)
def average(found: Floats, at: Any, heads: int, dim: int, mean: Floats, to: Any) -> None:
    """The mean over heads of what they pooled of items, from place `at` on."""
    part = floats_of(np.float32(1) / np.float32(heads))
    for d in range(0, dim, LANES):
        total = floats_of(np.float32(0))
        for h in range(heads):
            total = plus(total, load_floats(found, at + h * found.shape[1] + d))
        store_first(mean, to + d, times(total, part), dim - d)
