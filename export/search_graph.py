"""The graph that searches and attends at once, for a device that the behaviours had better not leave.

What it retrieves is what the kernels of `store/search` do, ties newest first included: `exact_top.py`.

- hamming: similarity and age are one whole number, exact in float32 and different for each behaviour;
- projection, clusters: what a behaviour's relevance has from itself is one more column of its key. Heads take turns:
  a behaviour's place is the least of rank x H + head over the heads that rank it.

Memory: one float32 [C, L] at a time and its sixty-fourth part, heads one after the other: 0.5 GB for 1,000 candidates and
131,072 behaviours. There is no Loop and no If, which a captured CUDA graph could not hold.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.exact_top import DROPPED, best_places
from export.graph_nodes import Nodes
from store.life_inputs import LIFE_AXES, MAX_LIFE, inputs_when_searching

LOWEST = np.float32(-1e30)  # relevance of padding
LIFE_TYPES = {"life_mask": TensorProto.BOOL, "life_cross": TensorProto.UINT8}
BYTE_SIGNS = np.where((np.arange(256)[:, None] >> np.arange(8)) & 1, 1, -1).astype(np.float32)  # [256, 8]


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
    mask = add.reshape("life_mask", [-1])  # [L]
    if search == "hamming":
        place = _nearest(add, candidates, life, mask, k)
    else:
        sized = "life_size" if "life_size" in wanted else None
        bias = _bias(add, tables["cross_bias"], sized)
        place = _most_relevant(add, candidates, life, mask, bias, tables["key_projection"].shape, k)
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
            kind = LIFE_TYPES.get(name, TensorProto.INT32)
            shape: list[Any] = [1, "L", *([features] if name == "life_cross" else [])]
        elif name == "signature":
            kind, shape = TensorProto.UINT8, ["N", 8]
        else:
            kind, table = helper.np_dtype_to_tensor_dtype(tables[name].dtype), tables[name]
            shape = list(table.shape) if name == "cross_bias" else ["N", *table.shape[1:]]
        described.append(helper.make_tensor_value_info(name, kind, shape))
    return described


def _nearest(add: Nodes, candidates: str, life: str, mask: str, k: int) -> str:
    """Places of the k nearest signatures, ascending: int64 [C, k].

    The products of bits as +1 and -1 sum to 64 - 2 x distance; times half of MAX_LIFE, no age makes up for a step. All
    sums are whole and below 2^24: exact, in whatever order they are made.
    """

    def bits(row: str) -> str:
        signature = add.cast(add("Gather", "signature", row), TensorProto.INT32)  # [.., 8]
        return add.reshape(add("Gather", add.constant(BYTE_SIGNS), signature), [-1, 1, 64])

    length = add("Squeeze", add("Shape", life))
    newness = add.cast(add("Range", add.constant(np.int64(0)), length, add.constant(np.int64(1))), TensorProto.FLOAT)
    newness = add.reshape(add("Where", mask, newness, add.constant(LOWEST)), [-1, 1])
    query, key = _with_bias(add, add("Mul", bits(candidates), add.constant(np.float32(MAX_LIFE / 2))), bits(life), newness, 64)
    return _ascending(add, best_places(add, _relevance(add, query, key, 0), k, ties=False), k)


def _with_bias(add: Nodes, query: str, key: str, bias: str, width: int) -> tuple[str, str]:
    """Queries [C, H, width] and keys [L, H, width] widened, so that their product has the `bias` [L, H] in it: adding it
    to [C, L] would be two more passes. Filled with zeros to a multiple of four, which products are quickest at."""
    rest = -(width + 1) % 4

    def widened(value: str, by: int, filled_with: float) -> str:
        return str(add("Pad", value, add.axes(0, 0, 0, 0, 0, by), add.constant(np.float32(filled_with)))) if by else value

    key = add("Concat", key, add("Unsqueeze", bias, add.axes(2)), axis=2)
    return widened(widened(query, 1, 1), rest, 0), widened(key, rest, 0)


def _relevance(add: Nodes, query: str, key: str, head: int) -> str:
    """Products of one head's queries and keys: float32 [C, L]."""
    of_head = [add("Gather", value, add.constant(np.int64(head)), axis=1) for value in (query, key)]
    return str(add("Gemm", *of_head, transB=1))


def _ascending(add: Nodes, place: str, k: int) -> str:
    """Places int32 [C, k] in the order of time, as int64."""
    value, _ = add.top(place, add.axes(k), largest=False)
    return add.cast(value, TensorProto.INT64)


def _bias(add: Nodes, cross_bias: NDArray[Any], size: str | None) -> str:
    """What a behaviour's relevance has from itself: float32 [L, H], summed in the order of `bias_of`."""
    features = cross_bias.shape[0]
    cross = add.cast(add.reshape("life_cross", [-1, features]), TensorProto.INT32)  # [L, 1 + J]
    total = ""
    for j in range(features):
        of_feature = add("Gather", "cross_bias", add.constant(np.int64(j)), axis=0)  # [buckets, H]
        part = add("Gather", of_feature, add("Gather", cross, add.constant(np.int64(j)), axis=1))  # [L, H]
        total = add("Add", total, part) if total else part
    if size is None:
        return total
    number = add("Max", add.cast(add.reshape(size, [-1, 1]), TensorProto.FLOAT), add.constant(np.float32(1)))  # 0 at padding
    return str(add("Add", total, add("Log", number)))


def _most_relevant(add: Nodes, candidates: str, life: str, mask: str, bias: str, shape: tuple[int, ...], k: int) -> str:
    """Places of a union of the heads' best, ascending: int64 [C, k]. `bias` float32 [L, H]; `shape` of the keys: [N, H, d_k]."""
    _, heads, width = shape
    query, key = add("Gather", "query_projection", candidates), add("Gather", "key_projection", life)  # [C | L, H, d_k]
    bias = add("Where", add("Unsqueeze", mask, add.axes(1)), bias, add.constant(LOWEST))
    query, key = _with_bias(add, query, key, bias, width)
    places = [best_places(add, _relevance(add, query, key, head), k, ties=True) for head in range(heads)]
    return _ascending(add, _in_turn(add, places, k) if heads > 1 else places[0], k)


def _in_turn(add: Nodes, places: list[str], k: int) -> str:
    """Of the heads' places int32 [C, k], best first, the k different ones that a round robin comes to first: int32 [C, k].

    Sorted by place and then turn, the first entry of each place is its earliest turn.
    """
    heads = len(places)
    turn = (np.arange(k) * heads + np.arange(heads)[:, None]).reshape(1, -1)  # [1, H k]
    kind = np.int32 if turn.size * MAX_LIFE <= DROPPED else np.int64  # int64 takes twice the time
    place = add.cast(add("Concat", *places, axis=1), helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    base, one, dropped = (add.constant(kind(value)) for value in (turn.size, 1, DROPPED))
    key, _ = add.top(add("Add", add("Mul", place, base), add.constant(turn.astype(kind))), add.axes(turn.size), largest=False)
    place, turn_of = add("Div", key, base), add("Mod", key, base)
    first, others = (add("Slice", place, *(add.axes(at) for at in (*ends, 1))) for ends in ((0, 1), (0, -1)))
    before = add("Concat", add("Sub", first, one), others, axis=1)  # of the first: another place
    _, earliest = add.top(add("Where", add("Equal", before, place), dropped, turn_of), add.axes(k), largest=False)
    return add.cast(add("GatherElements", place, earliest, axis=1), TensorProto.INT32)


def _retrieve(add: Nodes, place: str, life: str, mask: str, wanted: set[str], has_cross: bool) -> None:
    """What the scoring graph reads of the behaviours at `place` int64 [C, k]: zeros where there is none."""
    none, front = add.constant(np.int32(0)), add.axes(0)
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
        add.name(of_real(add.cast(add("Gather", gap, place), TensorProto.INT32)), "retrieved_gap")
    if "retrieved_cross" in wanted:
        cross = add.cast(add("Gather", add("Squeeze", "life_cross", front), place), TensorProto.INT32)  # [C, k, 1 + J]
        shown = add("Unsqueeze", real, add.axes(2))
        add.name(add("Unsqueeze", add("Where", shown, cross, none), front), "retrieved_cross")
    add.name(of_real(add.cast(place, TensorProto.INT32)), "index")
