"""A small known installation: six items, one graph that can be computed by hand, no training.

    logit = sum(target) + target . pooled + context . CONTEXT_WEIGHT
    pooled = softmax(target . behaviour) over what the search retrieved, 0 where that is nothing

The bundles are real ones: a manifest, sha256, golden scores (made by numpy, below, not by onnxruntime).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.behaviours import Fetched
from service.request import Call
from service.search import search
from store.behaviour_tree import BehaviourTree
from store.bundle import GOLDEN, GRAPH, ITEM_VECTOR, MANIFEST, REGISTRY, Bundle, TensorSpec, sha256, write_manifest
from store.connection import connect
from store.graph_inputs import AXES
from store.load import store_schema
from store.registry import Registry, StoredRegistry
from store.schema import ContextFeature, CrossFeature, Schema
from store.search import SEARCHES, SearchSpec
from store.types import Behaviours, Candidates, Floats, Rows

VERSION = "20260131T120000Z"
ITEMS = {"i1": "c1", "i2": "c1", "i3": "c2", "i4": "c2", "i5": "c3", "i6": "c3"}  # rows 2..7
VECTORS = np.array(  # [N, D], rows 0 and 1 included
    [[0, 0], [0.1, -0.1], [0.5, 0.2], [-0.3, 0.4], [0.9, -0.6], [-0.8, 0.1], [0.2, 0.7], [-0.1, -0.9]], np.float32
)
PAGE_WEIGHT, HOUR_WEIGHT, WEEKDAY_WEIGHT = CONTEXT_WEIGHT = (0.25, 0.01, 0.001)
K = 3
USER = "u1"
HISTORY = (("i1", 100, 1), ("i3", 200, 2), ("i2", 300, 3), ("i5", 400, 1))  # item, ts, bucket of the price
GOLDEN_AT = 1_000
SEARCH_OF = {"din": "newest", "sim_hard": "category", "eta": "hamming"}
INPUTS = ("candidate_row", "retrieved_row", "retrieved_cross", "retrieved_mask", "context")


@dataclass(frozen=True)
class Tiny:
    """Where the bundles are, and what they were made for."""

    bundles: Path
    data: str
    schema: Schema
    registry: Registry

    @staticmethod
    def at(folder: Path, data: str = "tiny") -> "Tiny":
        """An installation without any bundle yet."""
        schema = Schema(
            data=data,
            cross_features=[CrossFeature(name="price", edges=[1.0, 2.0])],
            context=[
                ContextFeature(name="page", values=["home", "cart"]),
                ContextFeature(name="hour", values=[str(hour) for hour in range(24)]),
                ContextFeature(name="weekday", values=[str(day) for day in range(7)]),
            ],
        )
        return Tiny(folder, data, schema, Registry.build(data, list(ITEMS), list(ITEMS.values())))

    def add(self, model: str, version: str = VERSION, explains: bool = True, finished: bool = True) -> Path:
        """Write one bundle; a model that does not explain has no weight in its graph."""
        folder = self.bundles / model / version
        folder.mkdir(parents=True)
        name = SEARCH_OF[model]
        tables: dict[str, NDArray[np.generic]] = {ITEM_VECTOR: VECTORS}
        if name == "hamming":
            tables["signature"] = np.arange(len(VECTORS), dtype=np.uint64)
        for table_name, table in tables.items():
            np.save(folder / f"{table_name}.npy", table)
        self.registry.save(folder / REGISTRY)
        inputs = (*INPUTS, "candidate_place") if SEARCHES[name].deals else INPUTS
        onnx.save(graph(explains, inputs), folder / GRAPH)
        spec = {"name": name, "k": K}
        self._write_golden(folder, SEARCHES[name], spec, tables)
        if finished:
            outputs = [("logit", ["U", "C"]), ("weight", ["U", "P", "K"])][: 1 + explains]
            dtype = {"retrieved_mask": "bool"}
            write_manifest(
                folder,
                {
                    "model": model, "version": version, "data": self.data, "registry_id": self.registry.registry_id,
                    "item_rows": self.registry.item_rows, "schema": self.schema, "search": spec, "recent": 0,
                    "inputs": [TensorSpec(name=ITEM_VECTOR, dtype="float32", axes=["N", "D"])]
                    + [TensorSpec(name=n, dtype=dtype.get(n, "int32"), axes=list(AXES[n])) for n in inputs],
                    "outputs": [TensorSpec(name=n, dtype="float32", axes=axes) for n, axes in outputs],
                    "tables": {n: TensorSpec(name=n, dtype=str(t.dtype), axes=["N", "D"][: t.ndim]) for n, t in tables.items()},
                    "explains": explains, "base_rate": 0.5, "calibrated": False, "training": {}, "made_with": {},
                },
            )  # fmt: skip
        return folder

    def _write_golden(self, folder, search_type, spec, tables) -> None:  # type: ignore[no-untyped-def]
        row = np.arange(2, 8, dtype=np.int32)
        candidates = Candidates(row, self.registry.category[row])
        history = self.history()
        retrieved = search_type(SearchSpec.model_validate(spec), tables)(
            candidates, history, np.zeros((len(history), 2), np.int32)
        )
        context = self.schema.encode_context({}, GOLDEN_AT)
        np.savez(
            folder / GOLDEN, candidate_row=row, candidate_category=candidates.category, row=history.row,
            category=history.category, ts=history.ts, cross=history.cross, at=GOLDEN_AT, context=context,
            scores=scores_by_hand(row, retrieved_rows(retrieved, history), context),
        )  # fmt: skip

    def history(self, events=HISTORY) -> Behaviours:  # type: ignore[no-untyped-def]
        """Behaviours of (item id, ts, price bucket), in the order given."""
        row = np.array([self.registry.row_of[item] for item, _, _ in events], np.int32)
        ts = np.array([ts for _, ts, _ in events], np.int64)
        return Behaviours(row, self.registry.category[row], ts, np.array([[price] for *_, price in events], np.uint8))

    def fill(self, url: str) -> None:
        """Bring schema, registry and the history of USER into a store."""
        client = connect(url)
        store_schema(client, self.schema)
        StoredRegistry(client, self.data).load(self.registry)
        BehaviourTree(client, self.data, 1).write(USER, self.history())
        client.close()

    def call(self, bundle: Bundle, item_ids: list[str], at: int = GOLDEN_AT, explain: int = 0, user_id: str = USER) -> Call:
        """A call as step 1 would make it, with `at` for the time and every behaviour used."""
        candidates = bundle.registry.candidates(item_ids)
        return Call(user_id, candidates, at, None, self.schema.encode_context({}, at), explain, 0)


def graph(explains: bool = True, reads: tuple[str, ...] = INPUTS) -> onnx.ModelProto:
    """The formula above as ONNX."""
    float32, int32, int64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64

    def constant(name: str, values: list[float], of: int = int64) -> onnx.TensorProto:
        return helper.make_tensor(name, of, [len(values)], values)

    node = helper.make_node
    nodes = [
        node("Gather", [ITEM_VECTOR, "candidate_row"], ["target"]),  # [U, G, S, D]
        node("Gather", [ITEM_VECTOR, "retrieved_row"], ["value"]),  # [U, G, K, D]
        node("Transpose", ["value"], ["value_t"], perm=[0, 1, 3, 2]),
        node("MatMul", ["target", "value_t"], ["relevance"]),  # [U, G, S, K]
        node("Exp", ["relevance"], ["exponential"]),
        node("Cast", ["retrieved_mask"], ["mask_float"], to=float32),
        node("Unsqueeze", ["mask_float", "two"], ["mask"]),  # [U, G, 1, K]
        node("Mul", ["exponential", "mask"], ["real"]),
        node("ReduceSum", ["real", "last"], ["sum"], keepdims=1),
        node("Max", ["sum", "tiny"], ["some"]),
        node("Div", ["real", "some"], ["attention"]),
        node("MatMul", ["attention", "value"], ["pooled"]),  # [U, G, S, D]
        node("Mul", ["target", "pooled"], ["product"]),
        node("Add", ["target", "product"], ["both"]),
        node("ReduceSum", ["both", "last"], ["without_context"], keepdims=0),  # [U, G, S]
        node("Cast", ["context"], ["context_float"], to=float32),
        node("Mul", ["context_float", "context_weight"], ["weighted"]),
        node("ReduceSum", ["weighted"], ["of_context"], keepdims=0),
        node("Add", ["without_context", "of_context"], ["logit_by_group"]),
        node("Reshape", ["logit_by_group", "flat"], ["logit_at_place"]),  # [U, P]
        node("GatherElements", ["logit_at_place", "candidate_place"], ["logit"], axis=1)
        if "candidate_place" in reads
        else node("Identity", ["logit_at_place"], ["logit"]),
    ]
    outputs = [helper.make_tensor_value_info("logit", float32, ["U", "C"])]
    if explains:
        nodes += [
            node("Shape", ["attention"], ["k"], start=3),
            node("Concat", ["flat", "k"], ["weight_shape"], axis=0),
            node("Reshape", ["attention", "weight_shape"], ["weight"]),
        ]
        outputs.append(helper.make_tensor_value_info("weight", float32, ["U", "P", "K"]))
    of = {"retrieved_mask": TensorProto.BOOL}
    inputs = [helper.make_tensor_value_info(ITEM_VECTOR, float32, ["N", VECTORS.shape[1]])]
    inputs += [helper.make_tensor_value_info(name, of.get(name, int32), list(AXES[name])) for name in reads]
    constants = [
        constant("two", [2]), constant("last", [-1]), constant("flat", [1, -1]),
        constant("tiny", [1e-30], float32), constant("context_weight", list(CONTEXT_WEIGHT), float32),
    ]  # fmt: skip
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def scores_by_hand(candidate_row: Rows, retrieved_row: list[Rows], context: Rows) -> Floats:
    """The formula above by numpy, candidate by candidate: `retrieved_row[c]` is what candidate c attends to."""
    scores = []
    for row, others in zip(candidate_row, retrieved_row, strict=True):
        target, values = VECTORS[row].astype(np.float64), VECTORS[others].astype(np.float64)
        weight = np.exp(values @ target)
        pooled = weight @ values / weight.sum() if len(others) else np.zeros(2)
        logit = target.sum() + target @ pooled + context @ np.array(CONTEXT_WEIGHT)
        scores.append(1 / (1 + np.exp(-logit)))
    return np.array(scores, np.float32)


def retrieved_rows(retrieved, behaviours: Behaviours) -> list[Rows]:  # type: ignore[no-untyped-def]
    """Rows that each candidate attends to, in the candidates' order."""
    size = len(retrieved.place) // len(retrieved.index)
    rows: dict[int, Rows] = {}
    for place, candidate in enumerate(retrieved.place.tolist()):
        if candidate >= 0:
            group = place // size
            rows[candidate] = behaviours.row[retrieved.index[group][retrieved.mask[group]]]
    return [rows[candidate] for candidate in range(len(rows))]


def expected(tiny: Tiny, bundle: Bundle, call: Call, behaviours: Behaviours) -> Floats:
    """What /score should say: the search's own choice, scored by hand."""
    searched = search(call, Fetched(behaviours), bundle)
    return scores_by_hand(call.candidates.row, retrieved_rows(searched.retrieved, searched.behaviours), call.context)


def sign_again(folder: Path, **changes: object) -> None:
    """Rewrite a manifest so that its digests fit the files as they are now; `changes` are fields of it."""
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    content["files"] = {name: sha256(folder / name) for name in content["files"]}
    path.write_text(json.dumps(content | changes))
