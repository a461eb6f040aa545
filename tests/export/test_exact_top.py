"""The best of long rows, found by chunks, against sorting whole rows."""

from functools import cache

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.exact_top import best_places
from export.graph_nodes import Nodes
from store.life_inputs import CHUNK


@cache
def session(k, ties):
    add = Nodes()
    add.name(best_places(add, "value", k, ties), "place")
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, ["C", "L"])
    place = helper.make_tensor_value_info("place", TensorProto.INT32, ["C", k])
    graph = helper.make_graph(add.nodes, "top", [value], [place], add.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def found(value, k, ties):
    return session(k, ties).run(["place"], {"value": value})[0]


def expected(value, k):
    """Best first, of equal ones the last."""
    newness = np.broadcast_to(np.arange(value.shape[1]), value.shape)
    return np.lexsort((newness, value))[:, ::-1][:, :k]


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1, 2, 5, 40]), st.sampled_from([1, 2, 9, 10**6]))
def test_the_best_of_a_row_come_first_and_of_equal_ones_the_newest(seed, chunks, k, different):
    random = np.random.default_rng(seed)
    value = random.integers(-different, different, (3, chunks * CHUNK)).astype(np.float32)
    assert (found(value, k, ties=True) == expected(value, k)).all()


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1, 2, 5, 40]))
def test_without_equal_values_the_same_ones_are_found_in_any_order(seed, chunks, k):
    random = np.random.default_rng(seed)
    value = np.stack([random.permutation(chunks * CHUNK) for _ in range(3)]).astype(np.float32)
    assert (np.sort(found(value, k, ties=False)) == np.sort(expected(value, k))).all()


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, 5 * CHUNK - 1])
def test_the_best_is_found_wherever_in_a_chunk_it_stands(at):
    value = np.zeros((1, 5 * CHUNK), np.float32)
    value[0, at] = 1
    assert found(value, 2, ties=True)[0, 0] == at
