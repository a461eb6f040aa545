"""Attend (ESU) in lists: each candidate's queries over its own list of behaviours, on one core, nothing gathered.

    pooled[c, h] = sum_k softmax_k(query[c, h] . behaviour[k]) behaviour[k]        k in the list of c
    behaviour[k] = [item[row[k]]; side[k]]

A graph has to write out what each candidate retrieved before it can multiply with it: 500 lists of 100 behaviours are
15 MB, written once and read twice. Here a row of the table of items is read where it is, and many lists have it:
it stays in the cache.
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
    fetch,
    floats_of,
    larger,
    load_float,
    load_floats,
    load_word,
    plus,
    store,
    times,
    times_plus,
)
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "eb491f07"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

LOWEST = np.float32(-3e38)  # below every relevance

WORKSPACE = Workspace()

Arrays = dict[str, NDArray[Any]]
Places = NDArray[np.int64]
Run = Callable[[Arrays], list[NDArray[Any]]]


def attend_in_lists(before: Run, after: Run, inputs: Arrays, item: Floats, weighs: bool = False) -> tuple[Floats, Floats | None]:
    """Logits float32 [1, C] of a request in lists (`graph_inputs.py`), and on demand the weights.

    Args:
        before: runs the graph that makes `query` [1, 1, C, H, W], and of each behaviour either what its vector has beside its
        item's, `side` [1, 1, T, W - D], or the vector, `behaviour` [1, 1, T, W]; after: the one that makes `logit` of `pooled`
        [1, 1, C, H, W] and of the inputs.
        item: vectors [N, D] that `retrieved_row` is of.

    Returns:
        the weights as of `attend`, None if they are not asked for.
    """
    query, made = (array[0, 0] for array in before(inputs))
    if made.shape[1] == query.shape[2]:  # whole: nothing beside
        item, row, side = made, np.arange(len(made), dtype=np.int32), made[:, :0]
    else:
        row, side = inputs["retrieved_row"][0, 0], made
    pooled, weight = attend(query, item, row, side, inputs["list_index"], inputs["list_size"], inputs["list_of"], weighs)
    (logit,) = after(inputs | {"pooled": pooled[None, None]})
    return logit, weight


def attend(
    query: Floats, item: Floats, row: Rows, side: Floats, list_index: Rows, list_size: Rows, list_of: Rows,
    weighs: bool = False,
) -> tuple[Floats, Floats | None]:  # fmt: skip
    """Attend to lists of behaviours, whose vectors are keys and values in one: their item's, and what stands beside it.

    Args:
        query: float32 [C, H, D + S], scaled already.
        item: float32 [N, D]; row: int32 [T], within N; side: float32 [T, S]. D and S are multiples of 16, S may be 0.
        list_index: int32 [lists, K], within T; list_size: int32 [lists], the first so many are real; list_of: int32 [C].

    Returns:
        float32 [C, H, D + S], zeros where a list is empty; float32 [C, K], the mean over heads of what each behaviour weighs,
        zeros at padding, None if not asked for.

    Cost: 500 x 100 behaviours of 4 heads and width 80 about 1.3 ms.
    """
    candidates, heads, width = query.shape
    dim, beside = item.shape[1], side.shape[1]
    if dim % LANES or beside % LANES or dim + beside != width:
        raise ValueError(
            f"queries of width {width}, items of {dim} and {beside} beside them: they add up, and are multiples of {LANES}"
        )
    if len(row) and not 0 <= row.min() <= row.max() < len(item):  # the kernel reads there without looking
        raise ValueError(f"rows {row.min()} to {row.max()} of a table of {len(item)}")
    pooled = np.empty((candidates, heads, width), np.float32)
    weight = np.zeros((candidates if weighs else 0, list_index.shape[1]), np.float32)
    places = list_index.shape[1]
    share, item_at, side_at = WORKSPACE.arrays(("f4", (FOUR * (places + LANES),)), ("i8", (places,)), ("i8", (places,)))
    vectors = (read_only(array) for array in (query, item, row, side))
    by_list = np.argsort(list_of, kind="stable").astype(np.int32)  # who shares a list finds its vectors in the nearest cache
    lists = (read_only(array) for array in (list_index, list_size, list_of, by_list))
    attend_each(*vectors, *lists, item_at, side_at, share, pooled, weight)
    return pooled, weight if weighs else None


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
    query: Floats, item: Floats, row: Rows, side: Floats, list_index: Rows, list_size: Rows, list_of: Rows, by_list: Rows,
    item_at: Places, side_at: Places, share: Floats, pooled: Floats, weight: Floats,
) -> None:  # fmt: skip
    """`attend`, with arrays to write to.

    `item_at`, `side_at`: int64 [K], where a list's vectors begin; `share`: float32 [4 (K + 16)], four heads side by side.
    """
    candidates, heads, width = query.shape
    dim, located = item.shape[1], np.int64(-1)
    for n in range(candidates):
        c = np.int64(load_word(by_list, n))
        own = np.int64(load_word(list_of, c))
        size = np.int64(load_word(list_size, own))
        if own != located:
            locate(item, row, side, list_index, own * list_index.shape[1], size, item_at, side_at)
            located = own
        for h in range(0, heads, FOUR):
            at = four_heads(c * heads, h, heads, width)
            relate(query, item, side, item_at, side_at, size, at, share)
            spread(share, size)
            pool(item, item_at, size, share, pooled, at, 0)
            pool(side, side_at, size, share, pooled, at, dim)
            if len(weight):
                for head in range(min(heads - h, FOUR)):
                    for j in range(size):
                        weight[c, j] += share[FOUR * j + head] / np.float32(heads)


@njit(cache=True, nogil=True, _nrt=False)
def locate(
    item: Floats, row: Rows, side: Floats, list_index: Rows, first: Any, size: Any, item_at: Places, side_at: Places
) -> None:  # fmt: skip
    """Where the vectors of a list begin; they are asked for, all at once."""
    dim, beside = item.shape[1], side.shape[1]
    for j in range(size):
        one = np.int64(load_word(list_index, first + j))
        item_at[j], side_at[j] = np.int64(load_word(row, one)) * dim, one * beside
        for d in range(0, dim, LANES):
            fetch(item, item_at[j] + d)
        for d in range(0, beside, LANES):
            fetch(side, side_at[j] + d)


@njit(cache=True, nogil=True, _nrt=False)
def four_heads(of: Any, h: int, heads: int, width: int) -> Any:
    """Where four heads of a candidate begin; beyond the last one it is that one again."""
    last = heads - 1
    return (of + h) * width, (of + min(h + 1, last)) * width, (of + min(h + 2, last)) * width, (of + min(h + 3, last)) * width


@njit(cache=True, nogil=True, _nrt=False)
def relate(
    query: Floats, item: Floats, side: Floats, item_at: Places, side_at: Places, size: Any, at: Any, share: Floats
) -> None:
    """Dot products of four heads with a list's behaviours, into `share`."""
    dim, beside = item.shape[1], side.shape[1]
    q0, q1, q2, q3 = at
    for j in range(size):
        zero = floats_of(np.float32(0))
        sum0, sum1, sum2, sum3 = zero, zero, zero, zero
        for d in range(0, dim, LANES):
            vector = load_floats(item, item_at[j] + d)
            sum0 = times_plus(load_floats(query, q0 + d), vector, sum0)
            sum1 = times_plus(load_floats(query, q1 + d), vector, sum1)
            sum2 = times_plus(load_floats(query, q2 + d), vector, sum2)
            sum3 = times_plus(load_floats(query, q3 + d), vector, sum3)
        for d in range(0, beside, LANES):
            vector = load_floats(side, side_at[j] + d)
            sum0 = times_plus(load_floats(query, q0 + dim + d), vector, sum0)
            sum1 = times_plus(load_floats(query, q1 + dim + d), vector, sum1)
            sum2 = times_plus(load_floats(query, q2 + dim + d), vector, sum2)
            sum3 = times_plus(load_floats(query, q3 + dim + d), vector, sum3)
        store_sums(share, FOUR * j, sum0, sum1, sum2, sum3)


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
def pool(vectors: Floats, vector_at: Places, size: Any, share: Floats, pooled: Floats, at: Any, behind: int) -> None:
    """What four heads have of a list's vectors, `behind` so many numbers of each: sixteen numbers of each head at a time."""
    p0, p1, p2, p3 = at
    for d in range(0, vectors.shape[1], LANES):
        zero = floats_of(np.float32(0))
        sum0, sum1, sum2, sum3 = zero, zero, zero, zero
        for j in range(size):
            vector = load_floats(vectors, vector_at[j] + d)
            sum0 = times_plus(floats_of(load_float(share, FOUR * j)), vector, sum0)
            sum1 = times_plus(floats_of(load_float(share, FOUR * j + 1)), vector, sum1)
            sum2 = times_plus(floats_of(load_float(share, FOUR * j + 2)), vector, sum2)
            sum3 = times_plus(floats_of(load_float(share, FOUR * j + 3)), vector, sum3)
        store(pooled, p0 + behind + d, sum0)
        store(pooled, p1 + behind + d, sum1)
        store(pooled, p2 + behind + d, sum2)
        store(pooled, p3 + behind + d, sum3)
