"""The target's row of self-attention over the behaviours and the target itself, on one core.

    pooled[c] = sum_k softmax_k(query[c] . key[k]) value[k]        k = all behaviours, then c itself, per head

Sixteen candidates stand in the lanes, each number of a behaviour is one load into all of them, and a head's weights
stay in the cache. A graph passes over [H, C, K] a dozen times.
Sums are of float32, in an order of their own: results differ from a graph's by rounding.
"""

from typing import Any

import numpy as np
from numba import njit

from store.search.exponential import exponential, over
from store.search.lanes import LANES, floats_of, larger, load_float, load_floats, plus, store, times, times_plus
from store.search.workspace import Workspace, read_only
from store.types import Floats

MADE_WITH = "f8f75369"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

OPERANDS = ("of_target", "key", "value", "below")

WORKSPACE = Workspace()


def attend_with_itself(of_target: Floats, key: Floats, value: Floats, below: Floats) -> tuple[Floats, Floats]:
    """What candidates pooled, float32 [H, d, C], and the mean over heads of what each behaviour weighs, float32 [K, C].

    Args:
        of_target: float32 [3, H, d, C], a target's query, scaled already, its own key and its own value.
        key, value: float32 [K, H, d], of behaviours; below: float32 [K], added to their relevance: -1e9 at padding.

    Cost: 500 x 50 of 8 heads of width 9 about 0.25 ms.
    """
    _, heads, width, candidates = of_target.shape
    padded = -(-candidates // LANES) * LANES
    own, share = WORKSPACE.arrays(("f4", (3, heads, width, padded)), ("f4", (len(key), LANES)))
    own[..., :candidates], own[..., candidates:] = of_target, 0
    pooled, mean = np.empty((heads, width, padded), np.float32), np.zeros((len(key), padded), np.float32)
    attend_each_row(*own, read_only(key), read_only(value), read_only(below), share, pooled, mean)
    return pooled[..., :candidates], mean[:, :candidates]


@njit(cache=True, nogil=True, _nrt=False)
def attend_each_row(
    query: Floats, own_key: Floats, own_value: Floats, key: Floats, value: Floats, below: Floats, share: Floats, pooled: Floats,
    mean: Floats,
) -> None:  # fmt: skip
    """`attend_with_itself`, with arrays to write to; C is a multiple of sixteen, `mean` is zeros."""
    heads, width, places = query.shape
    for c in range(0, places, LANES):
        for h in range(heads):
            own = floats_of(np.float32(0))
            for d in range(h * width, (h + 1) * width):
                own = times_plus(load_floats(query, d * places + c), load_floats(own_key, d * places + c), own)
            most = relate_head(query, key, below, h, c, own, share)
            itself, total = spread_head(share, own, most)
            part = over(total)
            for d in range(h * width, (h + 1) * width):
                found = times(itself, load_floats(own_value, d * places + c))
                for k in range(len(key)):
                    weight = floats_of(load_float(value, k * heads * width + d))
                    found = times_plus(load_floats(share, k * LANES), weight, found)
                store(pooled, d * places + c, times(found, part))
            part = times(part, floats_of(np.float32(1) / np.float32(heads)))
            for k in range(len(key)):
                at = k * places + c
                store(mean, at, times_plus(load_floats(share, k * LANES), part, load_floats(mean, at)))


@njit(cache=True, nogil=True, _nrt=False)
def relate_head(query: Floats, key: Floats, below: Floats, h: Any, c: Any, own: Any, share: Floats) -> Any:
    """Relevance of every behaviour to sixteen candidates, into `share`; the largest, their own among them."""
    heads, width, places = query.shape
    most = own
    for k in range(len(key)):
        found = floats_of(load_float(below, k))
        for d in range(h * width, (h + 1) * width):
            weight = floats_of(load_float(key, k * heads * width + d))
            found = times_plus(load_floats(query, d * places + c), weight, found)
        store(share, k * LANES, found)
        most = larger(most, found)
    return most


@njit(cache=True, nogil=True, _nrt=False)
def spread_head(share: Floats, own: Any, most: Any) -> Any:
    """Powers of e in place of relevance; the candidate's own, and their sum."""
    lower = times(most, floats_of(np.float32(-1)))
    itself = exponential(plus(own, lower))
    total = itself
    for k in range(len(share)):
        power = exponential(plus(load_floats(share, k * LANES), lower))
        store(share, k * LANES, power)
        total = plus(total, power)
    return itself, total
