"""Every operator of every exported graph has a CUDA kernel, so that nothing falls back on a GPU.

`cuda_kernels.json` is made from onnxruntime's OperatorKernels.md; `source`, `commit` and
`onnxruntime` in it say which text that was. An open-ended kernel ("13+") serves a node only when the
operator's schema is still that of version 13; a closed one ("13-18") any schema in its range.
"""

import json
from pathlib import Path

import onnx
import pytest
from onnx import helper, shape_inference

from export.models import list_models
from store.between import BETWEEN
from store.bundle import AFTER, BEFORE, UPDATE, Bundle, graph_file, versions
from store.life_inputs import GRAPH_SEARCHES

KERNELS = json.loads(Path(__file__).with_name("cuda_kernels.json").read_text())
ON_CPU_BY_DESIGN: dict[str, str] = {}  # operator -> why; shapes are computed on the CPU by kernels that the list has


def kernels_for(operator: str, schema_version: int) -> list[dict]:
    return [
        kernel
        for kernel in KERNELS["kernels"]
        if kernel["op"] == operator
        and (
            kernel["since"] == schema_version if kernel["until"] is None else kernel["since"] <= schema_version <= kernel["until"]
        )
    ]


def without_kernel(path: Path) -> list[str]:
    """Nodes that no row of the list serves, with operator, schema version and types; those in bodies of loops too."""
    model = shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    return missing_in(model.graph, {entry.domain: entry.version for entry in model.opset_import}, {})


def missing_in(graph: onnx.GraphProto, opset: dict[str, int], outer: dict[str, int]) -> list[str]:
    types = outer | {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.output, *graph.value_info]}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    missing = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                missing += missing_in(attribute.g, opset, types)
        schema = onnx.defs.get_schema(node.op_type, opset[node.domain], node.domain)
        used: dict[str, str] = {}
        for formal, name in [*zip(schema.inputs, node.input, strict=False), *zip(schema.outputs, node.output, strict=False)]:
            if name:
                used[formal.type_str] = helper.tensor_dtype_to_string(types[name]).removeprefix("TensorProto.").lower()
        served = any(
            all(used.get(constraint, allowed[0]) in allowed for constraint, allowed in kernel["types"].items())
            for kernel in kernels_for(node.op_type, schema.since_version)
        )
        if not served and node.op_type not in ON_CPU_BY_DESIGN:
            missing.append(f"{node.op_type}-{schema.since_version} {used}")
    return missing


def graphs_of(world, name: str) -> list[Path]:
    folder = world.bundles / name
    on_a_processor = {BEFORE, AFTER}.union(*(between.files for between in BETWEEN))
    return sorted(path for path in (folder / versions(folder)[-1]).glob("*.onnx") if path.name not in on_a_processor)


@pytest.mark.parametrize("name", list_models())
def test_every_operator_of_the_graphs_has_a_cuda_kernel(world, name):
    assert graphs_of(world, name)
    assert {path.name: without_kernel(path) for path in graphs_of(world, name)} == {
        path.name: [] for path in graphs_of(world, name)
    }


@pytest.mark.parametrize("name", list_models())
def test_the_graphs_for_a_device_are_among_them(world, name):
    """What the check above has seen: float16 where there is no state, the search in the graph where there is one."""
    bundle = Bundle(graphs_of(world, name)[0].parent)
    wanted = {graph_file("float32")}
    if not bundle.manifest.state:
        wanted.add(graph_file("float16"))
    if bundle.manifest.search.name in GRAPH_SEARCHES:
        wanted |= {graph_file(precision, searches=True) for precision in ("float32", "float16")}
    assert {path.name for path in graphs_of(world, name)} - {UPDATE} == wanted


@pytest.mark.parametrize("name", list_models())
def test_a_graph_that_searches_has_nothing_that_a_captured_cuda_graph_could_not_hold(world, name):
    """Neither control flow nor text; shapes are all that is computed on the CPU."""
    for path in graphs_of(world, name):
        if path.name.startswith("search_"):
            assert not {node.op_type for node in onnx.load(path).graph.node} & {"If", "Loop", "Scan", "NonZero", "Unique"}


# Inputs that CUDA's kernels read on the CPU, where sizes are.
READS_SIZES = {"Reshape": {1}, "Expand": {1}, "Slice": {1, 2, 3, 4}, "Tile": {1}, "Range": {0, 1, 2}, "TopK": {1},
               "ConstantOfShape": {0}, "Pad": {1}, "Squeeze": {1}, "Unsqueeze": {1}, "Split": {1}}  # fmt: skip


def computes_with_sizes(graph: onnx.GraphProto) -> list[str]:
    """Nodes that take a size and what is on the device: the size would be copied there, which no captured graph does."""
    constants = {tensor.name for tensor in graph.initializer} | {
        node.output[0] for node in graph.node if node.op_type == "Constant"
    }
    sizes: set[str] = set()
    found = []
    for node in graph.node:
        read = READS_SIZES.get(node.op_type, set())
        operands = {name for at, name in enumerate(node.input) if name and at not in read}
        if node.op_type == "Shape" or (operands & sizes and operands <= sizes | constants):
            sizes |= set(node.output)
        elif operands & sizes:
            found.append(f"{node.op_type} {node.name}")
    return found


@pytest.mark.parametrize("name", list_models())
def test_no_graph_computes_with_a_size(world, name):
    """`dien` has a loop, whose body is given its sizes; it is not captured anyway."""
    if name != "dien":
        assert {path.name: computes_with_sizes(onnx.load(path).graph) for path in graphs_of(world, name)} == {
            path.name: [] for path in graphs_of(world, name)
        }


def test_a_size_among_the_numbers_is_noticed():
    x = helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["n"])
    nodes = [helper.make_node("Shape", ["x"], ["n"]), helper.make_node("Mul", ["n", "n"], ["nn"])]
    fits = helper.make_graph([*nodes, helper.make_node("Reshape", ["x", "n"], ["y"])], "g", [x], [y])
    does_not = helper.make_graph([*nodes, helper.make_node("Add", ["x", "nn"], ["y"], "adds")], "g", [x], [y])
    assert (computes_with_sizes(fits), computes_with_sizes(does_not)) == ([], ["Add adds"])


@pytest.mark.parametrize("name", list_models())
def test_graphs_have_no_custom_domain(world, name):
    for path in graphs_of(world, name):
        assert {node.domain for node in onnx.load(path).graph.node} == {""}


def test_an_operator_in_the_body_of_a_loop_is_noticed(tmp_path):
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3])
    inner = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []) for name in ("a", "b")]
    body = helper.make_graph([helper.make_node("Tan", ["a"], ["b"])], "body", inner[:1], inner[1:])
    scan = helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)
    model = helper.make_model(helper.make_graph([scan], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, tmp_path / "scan.onnx")
    assert "Tan-7 {'T': 'float'}" in without_kernel(tmp_path / "scan.onnx")


def test_an_operator_without_a_kernel_is_noticed(tmp_path):
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Tan", ["x"], ["y"])], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)]
    )
    onnx.save(model, tmp_path / "tan.onnx")
    assert without_kernel(tmp_path / "tan.onnx") == ["Tan-7 {'T': 'float'}"]


def test_a_type_without_a_kernel_is_noticed(tmp_path):
    x, k = (helper.make_tensor_value_info(name, onnx.TensorProto.STRING, [1]) for name in "xk")
    node = helper.make_node("Equal", ["x", "k"], ["b"])
    b = helper.make_tensor_value_info("b", onnx.TensorProto.BOOL, [1])
    model = helper.make_model(helper.make_graph([node], "g", [x, k], [b]), opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, tmp_path / "strings.onnx")
    assert len(without_kernel(tmp_path / "strings.onnx")) == 1
