"""torch -> ONNX: one request, the item table as an input, shapes free where requests differ."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from export.models.contract import CTRModel
from store.bundle import ITEM_VECTOR, BundleInvalid, TensorSpec
from store.graph_inputs import AXES, GraphInputs
from store.search import SEARCHES

OPSET = 20
OUTPUTS = (("logit", ["U", "P"]), ("weight", ["U", "P", "K"]))


class _Graph(nn.Module):
    """The model with its inputs side by side, as a graph has them."""

    def __init__(self, model: CTRModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.model(item_vector, dict(zip(self.model.input_names, inputs, strict=True)))
        return out


def export_graph(
    model: CTRModel, item_vector: Tensor, inputs: GraphInputs, path: Path
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Write the ONNX graph of a model; return its inputs and outputs.

    Args:
        inputs: a real request to trace with.

    U is 1 in the graph; G and S are free as the search deals them, K, R and N always.
    """
    names = model.input_names
    group = SEARCHES[model.search_name].group
    free = {name: Dim(name, min=1) for name in ("N", "G", "S", "K", "R")}
    fixed = {"G"} if group is None else {"S"}
    shapes = [{0: free["N"]}] + [
        {axis: free[letter] for axis, letter in enumerate(AXES[name]) if letter in free and letter not in fixed} for name in names
    ]
    # an axis of size 1 would be taken for a constant: the tracing request has at least 2 on every free one
    arguments = (
        item_vector,
        *(torch.from_numpy(_at_least_two(inputs[name], shape)) for name, shape in zip(names, shapes[1:], strict=True)),
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            _Graph(model.eval()), arguments, path, dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            input_names=[ITEM_VECTOR, *names], output_names=[name for name, _ in OUTPUTS],
            dynamic_shapes=(shapes[0], tuple(shapes[1:])),
        )  # fmt: skip
    onnx.checker.check_model(path, full_check=True)
    _check_free(path, [ITEM_VECTOR, *names], shapes)
    described = [TensorSpec(name=ITEM_VECTOR, dtype="float32", axes=["N", "D"])]
    described += [TensorSpec(name=name, dtype=str(inputs[name].dtype), axes=list(AXES[name])) for name in names]
    return described, [TensorSpec(name=name, dtype="float32", axes=axes) for name, axes in OUTPUTS]


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
