"""torch -> ONNX: one request, the item table as an input, shapes free where requests differ."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.models.contract import CTRModel
from store.bundle import ITEM_VECTOR, TensorSpec
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
        inputs: a real request, at least two candidates and behaviours long, to trace with.

    U is 1 in the graph; G and S are free as the search deals them, K, R and N always.
    """
    names = model.input_names
    group = SEARCHES[model.search_name].group
    free = {name: Dim(name, min=1) for name in ("N", "G", "S", "K", "R")}
    fixed = {"G"} if group is None else {"S"}
    shapes = [{0: free["N"]}] + [
        {axis: free[letter] for axis, letter in enumerate(AXES[name]) if letter in free and letter not in fixed} for name in names
    ]
    arguments = (item_vector, *(torch.from_numpy(inputs[name]) for name in names))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            _Graph(model.eval()), arguments, path, dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
            input_names=[ITEM_VECTOR, *names], output_names=[name for name, _ in OUTPUTS],
            dynamic_shapes=(shapes[0], tuple(shapes[1:])),
        )  # fmt: skip
    onnx.checker.check_model(path, full_check=True)
    dtypes = {"float32": item_vector.numpy().dtype}
    described = [TensorSpec(name=ITEM_VECTOR, dtype=str(dtypes["float32"]), axes=["N", "D"])]
    described += [TensorSpec(name=name, dtype=str(inputs[name].dtype), axes=list(AXES[name])) for name in names]
    return described, [TensorSpec(name=name, dtype="float32", axes=axes) for name, axes in OUTPUTS]
