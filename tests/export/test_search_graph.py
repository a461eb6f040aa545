"""The search of a graph against the kernels, alone: ties everywhere, lives shorter than K, heads that agree or not."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, save

from export.search_graph import write_search_graph
from store import gaps
from store.graph_inputs import search_inputs
from store.life_inputs import CHUNK, life_inputs
from store.search import SEARCHES, SearchSpec
from store.types import Behaviours, Candidates

ITEMS, J, BUCKETS, WIDTH = 12, 1, 4, 3
PADDED = 4 * CHUNK  # L of the graph
CONTEXT = np.zeros(1, np.int32)


def show_what_was_retrieved(path, sizes):
    """A scoring graph that gives back what it was to attend to."""
    int32, boolean = TensorProto.INT32, TensorProto.BOOL
    shapes = {
        "candidate_row": (int32, [1, "G", 1]), "retrieved_row": (int32, [1, "G", "K"]),
        "retrieved_mask": (boolean, [1, "G", "K"]),
        "retrieved_cross": (int32, [1, "G", "K", 1 + J]), "retrieved_gap": (int32, [1, "G", "K"]),
        **({"retrieved_size": (int32, [1, "G", "K"])} if sizes else {}),
    }  # fmt: skip
    shown = [name for name in shapes if name != "candidate_row"]
    nodes = [helper.make_node("Identity", [name], [f"of_{name}"]) for name in shown]
    inputs = [helper.make_tensor_value_info(name, *of) for name, of in shapes.items()]
    outputs = [helper.make_tensor_value_info(f"of_{name}", *shapes[name]) for name in shown]
    graph = helper.make_graph(nodes, "shows", inputs, outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def tables_of(name, random, heads):
    """Few different values, small whole numbers: relevances are exact, and many of them equal."""
    if name == "hamming":
        return {"signature": random.choice(np.array([0, 1, 3, 2**64 - 1], np.uint64), ITEMS)}
    return {
        "key_projection": random.integers(-1, 2, (ITEMS, heads, WIDTH)).astype(np.float32),
        "query_projection": random.integers(-1, 2, (ITEMS, heads, WIDTH)).astype(np.float32),
        "cross_bias": random.integers(-1, 2, (1 + J, gaps.BUCKETS, heads)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def found_by_graph(tmp_path_factory):
    """Runs the graph of a search over tables; sessions are kept, tables are inputs."""
    folder, sessions = tmp_path_factory.mktemp("graphs"), {}

    def run(name, k, heads, tables, inputs):
        if (name, k, heads) not in sessions:
            path = folder / f"{name}_{k}_{heads}.onnx"
            show_what_was_retrieved(folder / "shows.onnx", name == "clusters")
            write_search_graph(folder / "shows.onnx", name, k, tables, path)
            sessions[name, k, heads] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session = sessions[name, k, heads]
        as_bytes = {n: t.view(np.uint8).reshape(-1, 8) if n == "signature" else t for n, t in tables.items()}
        fed = {node.name: {**as_bytes, **inputs}[node.name] for node in session.get_inputs()}
        outputs = [node.name for node in session.get_outputs()]
        return dict(zip(outputs, session.run(outputs, fed), strict=True))

    return run


def life_of(random, length, sized):
    row = random.integers(0, ITEMS, length).astype(np.int32)
    cross = random.integers(0, BUCKETS, (length, J)).astype(np.uint8)
    size = random.choice([1, 1, 8], length).astype(np.int32) if sized else None
    return Behaviours(row, row, np.sort(random.integers(0, 10**6, length)), cross, size)


def padded(inputs, length):
    return {
        name: np.pad(array, [(0, 0), (0, length - array.shape[1])] + [(0, 0)] * (array.ndim - 2))
        if name.startswith("life_")
        else array
        for name, array in inputs.items()
    }


@pytest.mark.parametrize(("name", "heads"), [("hamming", 1), ("projection", 1), ("projection", 3), ("clusters", 2)])
@given(st.integers(0, 10**6), st.integers(0, 40) | st.integers(0, PADDED), st.sampled_from([1, 4, 7]))
def test_ties_go_to_the_newer_and_heads_take_turns(found_by_graph, name, heads, seed, length, k):
    random = np.random.default_rng(seed)
    tables, life = tables_of(name, random, heads), life_of(random, length, name == "clusters")
    row = random.integers(0, ITEMS, 5).astype(np.int32)
    candidates = Candidates(row, row)
    search = SEARCHES[name](SearchSpec(name=name, k=k), tables)
    _, expected, inputs = search_inputs(search, candidates, life, 10**6, 0, CONTEXT)
    to_find, of_life = life_inputs(candidates, life, 10**6, 0, CONTEXT)
    found = found_by_graph(name, k, heads, tables, padded(of_life, PADDED))

    kept, missing = expected.index.shape[1], k - expected.index.shape[1]
    assert (found["index"][0, :, :kept] == np.where(expected.mask, expected.index, 0)).all()
    sizes = ("retrieved_size",) if name == "clusters" else ()
    for of_graph in ("retrieved_row", "retrieved_mask", "retrieved_cross", "retrieved_gap", *sizes):
        output = found[f"of_{of_graph}"]
        assert (output[:, :, :kept] == inputs[of_graph]).all(), of_graph
        assert not output[:, :, kept:].any(), missing
    assert (to_find.searched, to_find.place.tolist()) == (expected.searched, expected.place.tolist())


@pytest.mark.parametrize("name", ["hamming", "projection"])
def test_of_equal_behaviours_the_newest_are_found_however_many_there_are(found_by_graph, name):
    tables = tables_of(name, np.random.default_rng(0), 1)
    row = np.full(1500, 3, np.int32)
    life = Behaviours(row, row, np.full(1500, 9), np.ones((1500, J), np.uint8))
    row = np.array([3, 4], np.int32)
    _, inputs = life_inputs(Candidates(row, row), life, 10**9, 0, CONTEXT)
    found = found_by_graph(name, 7, 1, tables, padded(inputs, 2048))
    assert found["index"].tolist() == [[list(range(1493, 1500))] * 2]


def test_distances_of_signatures_count_before_age(found_by_graph):
    """131,072 behaviours: the oldest is one bit nearer than all others."""
    tables = {"signature": np.array([0, 0, 0, 1, 3], np.uint64)}
    row = np.full(1 << 17, 4, np.int32)
    row[0] = 3
    life = Behaviours(row, row, np.arange(1 << 17), np.ones((1 << 17, J), np.uint8))
    row = np.array([2], np.int32)
    _, inputs = life_inputs(Candidates(row, row), life, 10**9, 0, CONTEXT)
    found = found_by_graph("hamming", 4, 1, tables, inputs)
    assert found["index"].tolist() == [[[0, (1 << 17) - 3, (1 << 17) - 2, (1 << 17) - 1]]]
