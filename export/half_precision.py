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
FLOAT_ONLY = ["Range"]  # a count of places or behaviours may be beyond float16's whole numbers


def write_half_graph(score: Path, tables: set[str], path: Path) -> None:
    """Write the graph `score` in float16 to `path`; inputs in `tables` become float16, all other inputs and outputs stay."""
    model = onnx.load(score)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"  # the converter tells nodes apart by their names
    floats = [value.name for value in (*model.graph.input, *model.graph.output) if _is_float(value)]
    half = convert_float_to_float16(
        model, keep_io_types=[name for name in floats if name not in tables], op_block_list=FLOAT_ONLY,
        node_block_list=_last_layer(model.graph),
    )  # fmt: skip
    _keep_logits(half.graph)
    del half.graph.value_info[:]  # types that are no longer true
    OnnxModel(half).topological_sort()  # casts stand at the end
    onnx.checker.check_model(half, full_check=True)
    onnx.save(half, path)


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _last_layer(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the last matrix product to the logits."""
    made_by = {name: node for node in graph.node for name in node.output}
    names, value = [], LOGIT
    while value in made_by:
        node = made_by[value]
        names.append(node.name)
        if node.op_type in ("MatMul", "Gemm"):
            break
        value = next(name for name in node.input if name in made_by)
    return names


def _keep_logits(graph: onnx.GraphProto) -> None:
    """Take out the way through float16 that the converter leaves behind a float32 node at the end."""
    made_by = {name: node for node in graph.node for name in node.output}
    last = made_by[LOGIT]
    before = made_by[last.input[0]]
    if (last.op_type, before.op_type) == ("Cast", "Cast"):
        graph.node.append(helper.make_node("Identity", [before.input[0]], [LOGIT], "logit_as_it_is"))
        graph.node.remove(last)
