"""Attend (ESU) in lists: each candidate's queries over its own list of behaviours, on one core, nothing gathered.

    pooled[c, h] = sum_k softmax_k(query[c, h] . behaviour[k]) behaviour[k]        k in the list of c

A graph has to write out what each candidate retrieved before it can multiply with it: 500 lists of 100 behaviours are
15 MB, written once and read twice. Here a row of the table of behaviours is read where it is, and many lists have it:
it stays in the cache.
Sums are of float32, in an order of its own: results differ from a graph's by rounding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.exponential import exponential
from store.search.lanes import (
    LANES,
    fetch,
    floats_of,
    load_float,
    load_floats,
    load_word,
    plus,
    store,
    sum_of,
    times,
    times_plus,
)
from store.search.packing import AHEAD
from store.search.workspace import Workspace, read_only
from store.types import Floats, Rows

MADE_WITH = "fb1e240a"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

FOUR = 4  # heads side by side: their sums stay in registers
LOWEST = np.float32(-3e38)  # below every relevance

WORKSPACE = Workspace()

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], list[NDArray[Any]]]


def attend_in_lists(before: Run, after: Run, inputs: Arrays, weighs: bool = False) -> tuple[Floats, Floats | None]:
    """Logits float32 [1, C] of a request in lists (`graph_inputs.py`), and on demand the weights.

    Args:
        before: runs the graph that makes `query` [1, 1, C, H, W] and `behaviour` [1, 1, T, W]; after: the one that makes
        `logit` of `pooled` [1, 1, C, H, W] and of the inputs.

    Returns:
        the weights as of `attend`, None if they are not asked for.
    """
    query, behaviour = before(inputs)
    lists = (inputs["list_index"], inputs["list_size"], inputs["list_of"])
    pooled, weight = attend(query[0, 0], behaviour[0, 0], *lists, weighs)
    (logit,) = after(inputs | {"pooled": pooled[None, None]})
    return logit, weight


def attend(
    query: Floats, behaviour: Floats, list_index: Rows, list_size: Rows, list_of: Rows, weighs: bool = False
) -> tuple[Floats, Floats | None]:
    """Attend to lists.

    Args:
        query: float32 [C, H, W], scaled already; behaviour: float32 [T, W], keys and values in one. W is a multiple of 16.
        list_index: int32 [lists, K], within T; list_size: int32 [lists], the first so many are real; list_of: int32 [C].

    Returns:
        float32 [C, H, W], zeros where a list is empty; float32 [C, K], the mean over heads of what each behaviour weighs, zeros
        at padding, None if not asked for.

    Cost: 500 x 100 behaviours of 4 heads and width 80 about 1.3 ms.
    """
    candidates, heads, width = query.shape
    if width % LANES or behaviour.shape[1] != width:
        raise ValueError(f"queries of width {width}, behaviours of {behaviour.shape[1]}: one multiple of {LANES} is needed")
    pooled = np.empty((candidates, heads, width), np.float32)
    weight = np.zeros((candidates if weighs else 0, list_index.shape[1]), np.float32)
    (share,) = WORKSPACE.arrays(("f4", (FOUR, -(-list_index.shape[1] // LANES) * LANES)))
    lists = (read_only(array) for array in (list_index, list_size, list_of))
    attend_each(read_only(query), read_only(behaviour), *lists, share, pooled, weight)
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
    query: Floats, behaviour: Floats, list_index: Rows, list_size: Rows, list_of: Rows, share: Floats, pooled: Floats,
    weight: Floats,
) -> None:  # fmt: skip
    """`attend`, with arrays to write to; `share`: float32 [4, K], K rounded up to a multiple of sixteen."""
    candidates, heads, _ = query.shape
    for c in range(candidates):
        own = np.int64(load_word(list_of, c))
        first, size = own * list_index.shape[1], np.int64(load_word(list_size, own))
        for h in range(0, heads, FOUR):
            most = relate(query, behaviour, list_index, first, size, c * heads, h, heads, share)
            for n in range(FOUR):
                spread(share, n, size, most[n])
            pool(behaviour, list_index, first, size, c * heads, h, heads, share, pooled)
            if len(weight):
                for n in range(min(heads - h, FOUR)):
                    for j in range(size):
                        weight[c, j] += share[n, j] / np.float32(heads)


@njit(cache=True, nogil=True, _nrt=False)
def four_heads(of: Any, h: int, heads: int, width: int) -> Any:
    """Where four heads of a candidate begin; beyond the last one it is that one again."""
    last = heads - 1
    return (of + h) * width, (of + min(h + 1, last)) * width, (of + min(h + 2, last)) * width, (of + min(h + 3, last)) * width


@njit(cache=True, nogil=True, _nrt=False)
def relate(
    query: Floats, behaviour: Floats, list_index: Rows, first: Any, size: Any, of: Any, h: int, heads: int, share: Floats
) -> Any:  # fmt: skip
    """Dot products of four heads with a list's behaviours, into `share`; the largest of each head."""
    width = query.shape[2]
    q0, q1, q2, q3 = four_heads(of, h, heads, width)
    most0 = most1 = most2 = most3 = LOWEST
    for j in range(size):
        if j + AHEAD < size:
            later = np.int64(load_word(list_index, first + j + AHEAD)) * width
            for d in range(0, width, LANES):
                fetch(behaviour, later + d)
        row = np.int64(load_word(list_index, first + j)) * width
        vector = load_floats(behaviour, row)
        sum0, sum1 = times(load_floats(query, q0), vector), times(load_floats(query, q1), vector)
        sum2, sum3 = times(load_floats(query, q2), vector), times(load_floats(query, q3), vector)
        for d in range(LANES, width, LANES):
            vector = load_floats(behaviour, row + d)
            sum0 = times_plus(load_floats(query, q0 + d), vector, sum0)
            sum1 = times_plus(load_floats(query, q1 + d), vector, sum1)
            sum2 = times_plus(load_floats(query, q2 + d), vector, sum2)
            sum3 = times_plus(load_floats(query, q3 + d), vector, sum3)
        dot0, dot1, dot2, dot3 = sum_of(sum0), sum_of(sum1), sum_of(sum2), sum_of(sum3)
        share[0, j], share[1, j], share[2, j], share[3, j] = dot0, dot1, dot2, dot3
        most0, most1, most2, most3 = max(most0, dot0), max(most1, dot1), max(most2, dot2), max(most3, dot3)
    return most0, most1, most2, most3


@njit(cache=True, nogil=True, _nrt=False)
def spread(share: Floats, n: int, size: Any, most: Any) -> None:
    """Softmax of the first `size` numbers of a row, none of which is above `most`; what stands behind them is overwritten."""
    start = n * share.shape[1]
    for j in range(size, (size + LANES - 1) // LANES * LANES):
        share[n, j] = LOWEST
    total, below = floats_of(np.float32(0)), floats_of(-most)
    for j in range(0, size, LANES):
        power = exponential(plus(load_floats(share, start + j), below))
        store(share, start + j, power)
        total = plus(total, power)
    if size:
        part = floats_of(np.float32(1) / sum_of(total))
        for j in range(0, size, LANES):
            store(share, start + j, times(load_floats(share, start + j), part))


@njit(cache=True, nogil=True, _nrt=False)
def pool(
    behaviour: Floats, list_index: Rows, first: Any, size: Any, of: Any, h: int, heads: int, share: Floats, pooled: Floats
) -> None:  # fmt: skip
    """What four heads have of a list's behaviours: sixteen numbers of each head at a time."""
    width, k = pooled.shape[2], share.shape[1]
    p0, p1, p2, p3 = four_heads(of, h, heads, width)
    for d in range(0, width, LANES):
        zero = floats_of(np.float32(0))
        sum0, sum1, sum2, sum3 = zero, zero, zero, zero
        for j in range(size):
            vector = load_floats(behaviour, np.int64(load_word(list_index, first + j)) * width + d)
            sum0 = times_plus(floats_of(load_float(share, j)), vector, sum0)
            sum1 = times_plus(floats_of(load_float(share, k + j)), vector, sum1)
            sum2 = times_plus(floats_of(load_float(share, 2 * k + j)), vector, sum2)
            sum3 = times_plus(floats_of(load_float(share, 3 * k + j)), vector, sum3)
        store(pooled, p0 + d, sum0)
        store(pooled, p1 + d, sum1)
        store(pooled, p2 + d, sum2)
        store(pooled, p3 + d, sum3)
