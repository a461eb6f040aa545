import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.half_precision import write_half_graph


@pytest.fixture
def halved(tmp_path):
    """A graph of two layers over a table: the float32 one, and what became of it."""
    random = np.random.default_rng(0)
    weights = {"w1": random.random((4, 8)), "w2": random.random((8, 1)), "b2": random.random(1)}
    nodes = [
        helper.make_node("Gather", ["item_vector", "row"], ["item"]),
        helper.make_node("MatMul", ["item", "w1"], ["weight"]),
        helper.make_node("Relu", ["weight"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "w2"], ["product"]),
        helper.make_node("Add", ["product", "b2"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["logit"]),
    ]
    inputs = [
        helper.make_tensor_value_info("item_vector", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("row", TensorProto.INT32, ["P"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["P"]),
        helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["P", 8]),
    ]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([-1]), "last"))
    graph = helper.make_graph(nodes, "two layers", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "score.onnx")
    write_half_graph(tmp_path / "score.onnx", {"item_vector"}, tmp_path / "half.onnx")
    return tmp_path


def types(values):
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_tables_come_in_float16_and_what_a_caller_gives_and_gets_stays(halved):
    graph = onnx.load(halved / "half.onnx").graph
    assert types(graph.input) == {"item_vector": TensorProto.FLOAT16, "row": TensorProto.INT32}
    assert list(types(graph.output).items()) == [("logit", TensorProto.FLOAT), ("weight", TensorProto.FLOAT)]


def test_the_last_layer_is_float32_and_the_others_are_not(halved):
    graph = onnx.load(halved / "half.onnx").graph
    assert types_of_constants(graph) == {"w1": np.float16, "w2": np.float32, "b2": np.float32, "last": np.int64}


def types_of_constants(graph):
    return {tensor.name: numpy_helper.to_array(tensor).dtype.type for tensor in graph.initializer}


def test_scores_are_close_and_logits_are_finer_than_float16(halved):
    table = np.random.default_rng(1).random((9, 4), np.float32)
    row = np.arange(9, dtype=np.int32)
    found = {}
    for name, given in (("score.onnx", table), ("half.onnx", table.astype(np.float16))):
        session = onnxruntime.InferenceSession(halved / name, providers=["CPUExecutionProvider"])
        found[name] = session.run(["logit"], {"item_vector": given, "row": row})[0]
    difference = np.abs(found["score.onnx"] - found["half.onnx"])
    assert 0 < difference.max() < 2e-2
    assert (found["half.onnx"] != found["half.onnx"].astype(np.float16)).any()
