"""The scoring graph in float16, for GPUs: half of the memory traffic, tensor cores; the last layer and the logits stay float32.

Item tables become float16 inputs. A model that scores from a user's state has no such graph: sums over a life do not fit
into float16, and its graphs are small. bfloat16 is not offered: its 8 bits are coarser than the tolerance of golden scores.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

LOGIT = "logit"


def write_half_graph(score: Path, tables: set[str], path: Path) -> None:
    """Write the graph `score` in float16 to `path`; inputs in `tables` become float16, all other inputs and outputs stay."""
    model = onnx.load(score)
    outputs = list(model.graph.output)
    last, weights = _cut_last_layer(model.graph)
    floats = [value.name for value in (*model.graph.input, *model.graph.output) if _is_float(value)]
    half = convert_float_to_float16(model, keep_io_types=[name for name in floats if name not in tables])
    half.graph.node.extend(last)
    half.graph.initializer.extend(weights)
    del half.graph.output[:], half.graph.value_info[:]  # the latter say types that are no longer true
    half.graph.output.extend(outputs)
    OnnxModel(half).topological_sort()  # the converter puts casts at the end
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, path)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _cut_last_layer(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Take the nodes from the last matrix product to the logits out of a graph, whose output is then what they start from.

    Returns:
        the nodes and their weights.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    last: list[onnx.NodeProto] = []
    value = LOGIT
    while not last or last[-1].op_type not in ("MatMul", "Gemm"):
        last.append(made_by[value])
        value = next(name for name in last[-1].input if name in made_by)
    for node in last:
        graph.node.remove(node)
    elsewhere = {name for node in graph.node for name in node.input}
    read = {name for node in last for name in node.input} - elsewhere
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    for tensor in weights:
        graph.initializer.remove(tensor)
    others = [output for output in graph.output if output.name != LOGIT]
    del graph.output[:]
    graph.output.extend([helper.make_tensor_value_info(value, TensorProto.FLOAT, None), *others])
    return last, weights
