"""The graph that searches and attends at once, for a device that the behaviours had better not leave.

What it retrieves is what the kernels of `store/search` do, ties newest first included. TopK is trusted with
nothing that ties: CUDA's takes equal values in the order of its threads. So

- hamming: similarity and age are one whole number, exact in float32 and different for each behaviour;
- projection, clusters: one TopK finds the K-th relevance; those above it are in, and of those at it the newest.
  Heads then take turns: a behaviour's place is the least of rank x H + head over the heads that rank it.

Memory: two or three float32 [C, L] at a time, heads one after the other: 0.5 GB each for 1,000 candidates and
131,072 behaviours. There is no Loop and no If, which a captured CUDA graph could not hold.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from store.life_inputs import LIFE_AXES, MAX_LIFE, inputs_when_searching

LOWEST = np.float32(-1e30)  # relevance of padding
DROPPED = np.int64(1) << 60  # in place of what is not wanted, where the least is
BYTE_SIGNS = np.where((np.arange(256)[:, None] >> np.arange(8)) & 1, 1, -1).astype(np.float32)  # [256, 8]


class Nodes:
    """A graph in the making: every call adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Name of the output, or the names of several."""
        names = [f"search_{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, f"search_{operator}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any) -> str:
        """A constant of the value's own type."""
        name = f"search_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def top(self, values: str, k: int, largest: bool = True) -> tuple[str, str]:
        """The k largest (or least) of the last axis, sorted, and where they stand (int64)."""
        value, place = self("TopK", values, self.constant(np.array([k])), outputs=2, axis=-1, largest=int(largest))
        return value, place

    def cast(self, value: str, to: int) -> str:
        """As another type."""
        name: str = self("Cast", value, to=to)
        return name

    def reshape(self, value: str, shape: list[int]) -> str:
        """In another shape, -1 = what is left."""
        name: str = self("Reshape", value, self.constant(np.array(shape)))
        return name

    def name(self, value: str, name: str) -> None:
        """Give a value the name of an input of the scoring graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))


def write_search_graph(score: Path, search: str, k: int, tables: dict[str, NDArray[Any]], path: Path) -> None:
    """Write the graph `score`, with its search in front, to `path`.

    Args:
        search: its name, one of `store.life_inputs.GRAPH_SEARCHES`; k: behaviours kept for each candidate.
        tables: those of the bundle; their shapes are the inputs'.
    """
    scoring = onnx.load(score)
    found = {value.name: value for value in scoring.graph.input}
    wanted = inputs_when_searching(search, set(found))
    add = Nodes()
    candidates, life = add.reshape("candidate_row", [-1]), add.reshape("life_row", [-1])  # [C], [L]
    mask, newness = add.reshape("life_mask", [-1]), _newness(add, life)  # [L]
    if search == "hamming":
        place = _nearest(add, candidates, life, add("Where", mask, newness, add.constant(LOWEST)), k)
    else:
        sized = "life_size" if "life_size" in wanted else None
        heads = tables["key_projection"].shape[1]
        place = _most_relevant(add, candidates, life, mask, newness, _bias(add, tables["cross_bias"], sized), heads, k)
    _retrieve(add, place, life, mask, set(found), "life_cross" in wanted)
    kept = [value for name, value in found.items() if name in wanted]
    graph = helper.make_graph(
        [*add.nodes, *scoring.graph.node], "search_score",
        [*kept, *_inputs(wanted - set(found), tables, _features(found, tables))],
        [*scoring.graph.output, helper.make_tensor_value_info("index", TensorProto.INT32, ["U", "G", k])],
        [*scoring.graph.initializer, *add.constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=scoring.opset_import, ir_version=scoring.ir_version)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _features(found: dict[str, onnx.ValueInfoProto], tables: dict[str, NDArray[Any]]) -> Any:
    """1 + J, where anything needs it."""
    if "cross_bias" in tables:
        return len(tables["cross_bias"])
    return found["retrieved_cross"].type.tensor_type.shape.dim[3].dim_value if "retrieved_cross" in found else None


def _inputs(names: set[str], tables: dict[str, NDArray[Any]], features: Any) -> list[onnx.ValueInfoProto]:
    """Inputs that the scoring graph does not have. Signatures come as bytes: CUDA has no kernels for 64-bit words."""
    described = []
    for name in sorted(names):
        if name in LIFE_AXES:
            kind = TensorProto.BOOL if name == "life_mask" else TensorProto.INT32
            shape: list[Any] = [1, "L", *([features] if name == "life_cross" else [])]
        elif name == "signature":
            kind, shape = TensorProto.UINT8, ["N", 8]
        else:
            kind, table = helper.np_dtype_to_tensor_dtype(tables[name].dtype), tables[name]
            shape = list(table.shape) if name == "cross_bias" else ["N", *table.shape[1:]]
        described.append(helper.make_tensor_value_info(name, kind, shape))
    return described


def _newness(add: Nodes, life: str) -> str:
    """0 for the oldest behaviour, 1 for the next: float32 [L]."""
    length = add("Squeeze", add("Shape", life))
    return add.cast(add("Range", add.constant(np.int64(0)), length, add.constant(np.int64(1))), TensorProto.FLOAT)


def _nearest(add: Nodes, candidates: str, life: str, age: str, k: int) -> str:
    """Places of the k nearest signatures, ascending: int64 [C, k]. `age` float32 [L]: newness, padding far below.

    The products of bits as +1 and -1 sum to 64 - 2 x distance; times half of MAX_LIFE, no age makes up for a step.
    """

    def bits(row: str) -> str:
        signature = add.cast(add("Gather", "signature", row), TensorProto.INT32)  # [.., 8]
        return add.reshape(add("Gather", add.constant(BYTE_SIGNS), signature), [-1, 64])

    query = add("Mul", bits(candidates), add.constant(np.float32(MAX_LIFE / 2)))
    order = add("Gemm", query, bits(life), age, transB=1)  # [C, L], below 2^24: exact
    _, place = add.top(order, k)
    return add.top(place, k, largest=False)[0]


def _bias(add: Nodes, cross_bias: NDArray[Any], size: str | None) -> str:
    """What a behaviour's relevance has from itself: float32 [L, H], summed in the order of `bias_of`."""
    features = cross_bias.shape[0]
    cross = add.reshape("life_cross", [-1, features])  # [L, 1 + J]
    total = ""
    for j in range(features):
        of_feature = add("Gather", "cross_bias", add.constant(np.int64(j)), axis=0)  # [buckets, H]
        part = add("Gather", of_feature, add("Gather", cross, add.constant(np.int64(j)), axis=1))  # [L, H]
        total = add("Add", total, part) if total else part
    if size is None:
        return total
    number = add("Max", add.cast(add.reshape(size, [-1, 1]), TensorProto.FLOAT), add.constant(np.float32(1)))  # 0 at padding
    return str(add("Add", total, add("Log", number)))


def _most_relevant(
    add: Nodes, candidates: str, life: str, mask: str, newness: str, bias: str, heads: int, k: int
) -> str:  # fmt: skip
    """Places of the union of the heads' best, ascending: int64 [C, k]."""
    query, key = add("Gather", "query_projection", candidates), add("Gather", "key_projection", life)  # [C | L, H, d_k]
    places, turns = [], []
    for h in range(heads):
        head = add.constant(np.int64(h))
        of_head = add("Where", mask, add("Gather", bias, head, axis=1), add.constant(LOWEST))  # [L]
        relevance = add(
            "Gemm", add("Gather", query, head, axis=1), add("Gather", key, head, axis=1), of_head, transB=1
        )  # [C, L]  # fmt: skip
        for place, rank in _ranked(add, relevance, newness, k):
            places.append(place)
            turns.append(_turn(add, rank, h, heads))
    place, turn = add("Concat", *places, axis=-1), add("Concat", *turns, axis=-1)  # [C, 2 k H]
    return _in_turn(add, place, turn, 2 * k * heads, k)


def _ranked(add: Nodes, relevance: str, newness: str, k: int) -> list[tuple[str, str]]:
    """The k best of a head in two parts, above the k-th relevance and at it: places and ranks int64 [C, k] each.

    A rank of k or more is of no use: the part has fewer than k.
    """
    value, place = add.top(relevance, k)
    least = add("Slice", value, *(add.constant(np.array([at])) for at in (k - 1, k, 1)))  # [C, 1]
    above = add("Greater", value, least)  # [C, k]
    number = add("ReduceSum", add.cast(above, TensorProto.INT64), add.constant(np.array([1])), keepdims=1)  # [C, 1]

    first, second = (add("Unsqueeze", value, add.constant(np.array([axis]))) for axis in (2, 1))  # [C, k, 1], [C, 1, k]
    older, newer = (add("Unsqueeze", place, add.constant(np.array([axis]))) for axis in (2, 1))
    tied = add("And", add("Equal", second, first), add("Greater", newer, older))
    better = add("Or", add("Greater", second, first), tied)  # [C, k, k]: is the second better than the first?
    number_better = add("ReduceSum", add.cast(better, TensorProto.INT32), add.constant(np.array([2])), keepdims=0)
    rank = add.cast(number_better, TensorProto.INT64)  # [C, k]
    useless = add.constant(DROPPED)

    at_least = add("Where", add("Equal", relevance, least), newness, add.constant(np.float32(-1)))  # [C, L]
    age, place_of_tied = add.top(at_least, k)  # newest first
    rank_of_tied = add("Add", number, add.constant(np.arange(k)))
    real = add(
        "And", add("GreaterOrEqual", age, add.constant(np.float32(0))), add("Less", rank_of_tied, add.constant(np.int64(k)))
    )
    return [(place, add("Where", above, rank, useless)), (place_of_tied, add("Where", real, rank_of_tied, useless))]


def _turn(add: Nodes, rank: str, head: int, heads: int) -> str:
    """When a round robin over the heads comes to a rank of this one."""
    dropped = add("Equal", rank, add.constant(DROPPED))
    turn = add("Add", add("Mul", rank, add.constant(np.int64(heads))), add.constant(np.int64(head)))
    return str(add("Where", dropped, rank, turn))


def _in_turn(add: Nodes, place: str, turn: str, width: int, k: int) -> str:
    """Of places with their turns int64 [C, width], the k different ones whose turn comes first: ascending.

    Sorted by place and then turn, the first entry of each place is its earliest turn.
    """
    base = add.constant(np.int64(width))  # turns are below it
    key = add("Add", add("Mul", place, base), turn)
    key = add("Where", add("Less", turn, base), key, add.constant(DROPPED))
    key, _ = add.top(key, width, largest=False)  # no two are equal but dropped ones
    place, turn = add("Div", key, base), add("Mod", key, base)
    first, others = (add("Slice", place, *(add.constant(np.array([at])) for at in ends)) for ends in ((0, 1, 1), (0, -1, 1)))
    before = add("Concat", add("Sub", first, add.constant(np.int64(1))), others, axis=1)  # of the first: another place
    again = add("Equal", before, place)
    unwanted = add("Or", again, add("Equal", key, add.constant(DROPPED)))
    _, earliest = add.top(add("Where", unwanted, add.constant(DROPPED), turn), k, largest=False)
    return add.top(add("GatherElements", place, earliest, axis=1), k, largest=False)[0]


def _retrieve(add: Nodes, place: str, life: str, mask: str, wanted: set[str], has_cross: bool) -> None:
    """What the scoring graph reads of the behaviours at `place` int64 [C, k]: zeros where there is none."""
    none, front = add.constant(np.int32(0)), add.constant(np.array([0]))
    real = add("Gather", mask, place)  # [C, k]

    def of_real(values: str) -> str:
        return str(add("Unsqueeze", add("Where", real, values, none), front))

    if "retrieved_mask" in wanted:
        add.name(add("Unsqueeze", real, front), "retrieved_mask")
    if "retrieved_row" in wanted:
        add.name(of_real(add("Gather", life, place)), "retrieved_row")
    if "retrieved_size" in wanted:
        add.name(of_real(add("Gather", add.reshape("life_size", [-1]), place)), "retrieved_size")
    if "retrieved_gap" in wanted:
        first = add.constant(np.int64(0))
        gap = add("Gather", add("Squeeze", "life_cross", front), first, axis=1) if has_cross else add.reshape("life_gap", [-1])
        add.name(of_real(add("Gather", gap, place)), "retrieved_gap")
    if "retrieved_cross" in wanted:
        cross = add("Gather", add("Squeeze", "life_cross", front), place)  # [C, k, 1 + J]
        shown = add("Unsqueeze", real, add.constant(np.array([2])))
        add.name(add("Unsqueeze", add("Where", shown, cross, none), front), "retrieved_cross")
    add.name(of_real(add.cast(place, TensorProto.INT32)), "index")
