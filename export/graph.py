"""torch -> ONNX: one request, item tables as inputs, shapes free where requests differ.

A model is one graph, candidates x user tensors -> logits; one that scores from a state has a second,
state x behaviours -> state.
"""

import logging
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from export.models.contract import CTRModel
from export.models.stateful import StatefulModel, Update
from store.bundle import ITEM_VECTOR, BundleInvalid, TensorSpec
from store.graph_inputs import AXES, GraphInputs
from store.search import SEARCHES

OPSET = 20
FREE = ("N", "C", "G", "S", "K", "R", "T")
Axes = dict[str, tuple[str, ...]]


class _Score(nn.Module):
    """The model with its inputs side by side, as a graph has them."""

    def __init__(self, model: CTRModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        scored = self.model(item_vector, dict(zip(self.names, inputs, strict=True)))
        return (scored.logit,) if scored.weight is None else (scored.logit, scored.weight)


def table_axes(model: CTRModel, tables: Mapping[str, NDArray[Any]]) -> Axes:
    """Axes of each item table; those of constants are their own."""
    own = {name: tuple("abcd")[: table.ndim] for name, table in tables.items() if name in model.constants}
    return {name: ("N", "D") if name == ITEM_VECTOR else ("N", *"abcd")[: table.ndim] for name, table in tables.items()} | own


def export_graph(
    model: CTRModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, path: Path
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Write the scoring graph of a model; return its inputs and outputs.

    Args:
        tables: all tables of the model, item_vector among them.
        inputs: a real request to trace with.

    U is 1 in the graph; G and S are free as the search deals them, K (unless the model fixes it), R and N always.
    """
    names = [*model.graph_tables, *model.input_names]
    arrays = {**tables, **{name: tables[f"initial_{name}"][None] for name in state_axes(model)}, **inputs}
    axes = AXES | state_axes(model) | table_axes(model, tables)
    outputs: Axes = {"logit": ("U", "C")} | ({"weight": ("U", "P", "K")} if model.explains else {})
    fixed = ({"G"} if SEARCHES[model.search_name].group is None else {"S"}) | ({"K"} if model.fixed_k else set())
    _export(_Score(model.eval(), names), [ITEM_VECTOR, *names], arrays, axes, fixed, list(outputs), path)
    described = [_spec(name, arrays[name], axes[name]) for name in (ITEM_VECTOR, *names)]
    return described, [TensorSpec(name=name, dtype="float32", axes=list(axes)) for name, axes in outputs.items()]


def export_update(model: StatefulModel, tables: Mapping[str, NDArray[Any]], path: Path) -> list[TensorSpec]:
    """Write the graph that folds behaviours into a state; return the specs of the state.

    T, the behaviours of one run, is free unless the model folds a fixed number at once.
    """
    names = [*model.graph_tables, *model.state_axes, "behaviour_row"]
    row = np.ones((1, 1, model.fold_at_once or 2), np.int32)
    state = {name: tables[f"initial_{name}"][None] for name in model.state_axes}
    axes = state_axes(model) | table_axes(model, tables) | {"behaviour_row": ("U", "G", "T")}
    fixed = {"G", "T"} if model.fold_at_once else {"G"}
    outputs = [f"next_{name}" for name in model.state_axes]
    _export(Update(model.eval()), [ITEM_VECTOR, *names], {**tables, **state, "behaviour_row": row}, axes, fixed, outputs, path)
    return [_spec(name, state[name], axes[name]) for name in model.state_axes]


def export_part(
    module: nn.Module, names: list[str], arrays: Mapping[str, NDArray[Any]], axes: Axes, outputs: list[str], path: Path,
    fixed: Collection[str] = (),
) -> None:  # fmt: skip
    """Write a graph over item_vector and `names`, for one group of any number of candidates and, unless K is among the
    `fixed` axes, of retrieved behaviours."""
    _export(module, [ITEM_VECTOR, *names], arrays, axes, {"G", *fixed}, outputs, path)


def _export(
    module: nn.Module, names: list[str], arrays: Mapping[str, NDArray[Any]], axes: Axes, fixed: set[str], outputs: list[str],
    path: Path,
) -> None:  # fmt: skip
    free = {letter: Dim(letter, min=1) for letter in FREE if letter not in fixed}
    shapes = [{axis: free[letter] for axis, letter in enumerate(axes[name]) if letter in free} for name in names]
    # an axis of size 1 would be taken for a constant: the tracing request has at least 2 on every free one
    arguments = [torch.from_numpy(_at_least_two(arrays[name], shape)) for name, shape in zip(names, shapes, strict=True)]
    write_graph(module, arguments, names, outputs, path, _like_forward(module, shapes))
    _with_constant_slopes(path)
    onnx.checker.check_model(path, full_check=True)
    _check_free(path, names, shapes)


def write_graph(
    module: nn.Module, arguments: Iterable[Tensor], names: list[str], outputs: list[str], path: Path, free: Any = None
) -> None:
    """Trace a module with these arguments and write it, silently. `free`: torch's `dynamic_shapes`; None = all axes are fixed."""
    for name in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            module, tuple(arguments), path, dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            input_names=names, output_names=outputs, dynamic_shapes=free,
        )  # fmt: skip


def _with_constant_slopes(path: Path) -> None:
    """PReLU with one trained slope as LeakyReLU: the same numbers, which onnxruntime computes twenty times as fast."""
    graph = (model := onnx.load(path)).graph
    slopes = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    for node in graph.node:
        if node.op_type == "PRelu" and slopes[node.input[1]].size == 1:
            slope = float(slopes[node.input[1]].item())
            changed = onnx.helper.make_node("LeakyRelu", node.input[:1], node.output, node.name, alpha=slope)
            node.CopyFrom(changed)
    onnx.save(model, path)


def _like_forward(module: nn.Module, shapes: list[dict[int, Any]]) -> tuple[Any, ...]:
    """Shapes arranged as the arguments of forward: all variadic, or one and then variadic."""
    return (tuple(shapes),) if isinstance(module, Update) else (shapes[0], tuple(shapes[1:]))


def state_axes(model: CTRModel) -> Axes:
    """Of the state, for a model that has one."""
    return {name: ("U", *axes) for name, axes in model.state_axes.items()} if isinstance(model, StatefulModel) else {}


def _spec(name: str, array: NDArray[Any], axes: tuple[str, ...]) -> TensorSpec:
    return TensorSpec(name=name, dtype=str(array.dtype), axes=list(axes))


def _at_least_two(array: NDArray[Any], shape: dict[int, Any]) -> NDArray[Any]:
    """Widened by padding to at least 2 along its free axes."""
    return np.pad(array, [(0, max(2 - size, 0) if axis in shape else 0) for axis, size in enumerate(array.shape)])


def _check_free(path: Path, names: list[str], shapes: list[dict[int, Any]]) -> None:
    """Whether the axes that should be free are so in the graph.

    Raises:
        BundleInvalid: the exporter fixed one; the graph would fail on requests of another size.
    """
    found = {value.name: value.type.tensor_type.shape.dim for value in onnx.load(path).graph.input}
    for name, shape in zip(names, shapes, strict=True):
        for axis in shape:
            if not found[name][axis].dim_param:
                raise BundleInvalid(f"{path}: axis {axis} of {name} is fixed at {found[name][axis].dim_value}, it must be free")
