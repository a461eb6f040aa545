"""The k best of long rows, ties newest first, as nodes of a graph for a device.

CUDA's TopK takes equal values in the order of its threads, and reads a row again and again: 3.1 ms for float32 [1024, 131072],
0.1 for [1024, 2048] (H100). So a row is cut into chunks of CHUNK neighbours. The k elements that come first are in the k chunks
whose own best come first: one pass finds the best of each chunk, and only those chunks are looked into.

What stands later in a row is newer, chunks included. A row has at most MAX_LIFE elements.
"""

import numpy as np
from onnx import TensorProto

from export.graph_nodes import Nodes
from store.life_inputs import CHUNK, MAX_LIFE

DROPPED = np.int32(2**31 - 1)  # in place of what is not wanted, where the least is


def best_places(add: Nodes, value: str, k: int, ties: bool) -> str:
    """Where the k best of each row stand.

    Args:
        value: float32 [C, L]; L a multiple of CHUNK, at least k.
        ties: whether equal values are there; if not, the order is left open.

    Returns:
        int32 [C, k]; with ties, the best first.
    """
    best = add(
        "Squeeze", add("MaxPool", add("Unsqueeze", value, add.axes(1)), kernel_shape=[CHUNK], strides=[CHUNK]), add.axes(1)
    )
    number = add("Min", add("Shape", best, start=1, end=2), add.axes(k))  # of chunks that are looked into
    if ties:  # in the order of time again
        chunk, _ = add.top(add.cast(_newest_of_best(add, best, number), TensorProto.INT64), number, largest=False)
    else:
        _, chunk = add.top(best, number)
    chunks = add.reshape(value, [0, -1, CHUNK])
    within = add("GatherND", chunks, add("Unsqueeze", chunk, add.axes(2)), batch_dims=1)  # [C, number, CHUNK]
    within = add.reshape(within, [0, -1])
    if ties:
        place = add.cast(_newest_of_best(add, within, add.axes(k)), TensorProto.INT64)
    else:
        _, place = add.top(within, add.axes(k))
    size = add.constant(np.int64(CHUNK))
    of_chunk = add("GatherElements", chunk, add("Div", place, size), axis=1)
    return add.cast(add("Add", add("Mul", of_chunk, size), add("Mod", place, size)), TensorProto.INT32)


def _newest_of_best(add: Nodes, value: str, k: str) -> str:
    """Where the k best of float32 [C, M] stand, the best first, of equal ones the last: int32 [C, k].

    One TopK finds the k-th value, a second the newest of those at it. Then what is above and at it is put in order by whole
    numbers: how many different values are better, and age.
    """
    found, place = add.top(value, k)
    least = add("Slice", found, *(add.axes(at) for at in (-1, MAX_LIFE, 1)))  # [C, 1]
    length = add("Squeeze", add("Shape", value, start=1, end=2))
    newness = add("Range", add.constant(np.int64(0)), length, add.constant(np.int64(1)))
    newness = add.cast(newness, TensorProto.FLOAT)  # [M]
    newest, _ = add.top(add("Where", add("Equal", value, least), newness, add.constant(np.float32(-1))), k)  # -1: no more

    first, others = (add("Slice", found, *(add.axes(at) for at in (*ends, 1))) for ends in ((0, 1), (0, -1)))
    differs = add("Not", add("Equal", found, add("Concat", first, others, axis=1)))  # from the one before
    better = add("CumSum", add.cast(differs, TensorProto.INT32), add.constant(np.int64(1)))  # [C, k]
    none_better = add("Slice", better, *(add.axes(at) for at in (-1, MAX_LIFE, 1)))

    dropped = add.constant(DROPPED)
    above = _order(add, better, add.cast(place, TensorProto.INT32))
    above = add("Where", add("Greater", found, least), above, dropped)
    at_it = _order(add, none_better, add.cast(newest, TensorProto.INT32))
    at_it = add("Where", add("Less", newest, add.constant(np.float32(0))), dropped, at_it)
    order, _ = add.top(add("Concat", above, at_it, axis=1), k, largest=False)
    span = add.constant(np.int32(MAX_LIFE))
    return str(add("Sub", add.constant(np.int32(MAX_LIFE - 1)), add("Mod", order, span)))


def _order(add: Nodes, better: str, place: str) -> str:
    """A whole number for each: first by how many values are better, then the newest. Below 2^31 for k below 2^13."""
    age = add("Sub", add.constant(np.int32(MAX_LIFE - 1)), place)
    return str(add("Add", add("Mul", better, add.constant(np.int32(MAX_LIFE))), age))
