"""The graphs around a kernel, for scorers on a processor: before it, if it needs one, and after it.

What the kernel does is not in them (`store/between.py`). Both read a request as the whole graph does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import export_part, state_axes, table_axes
from export.models.around_kernel import KernelModel
from export.models.contract import Interest, as_array
from store.between import operands_in
from store.bundle import ITEM_VECTOR, inputs_around
from store.graph_inputs import AXES, GraphInputs


class _Before(nn.Module):
    """What the kernel computes from."""

    def __init__(self, model: KernelModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        return tuple(self.model.operands(target, self.model.user(item_vector, read)))


class _After(nn.Module):
    """Logits and weights from the kernel's answers."""

    def __init__(self, model: KernelModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        user = self.model.user(item_vector, read) if self.model.between.before else None
        found: Interest = self.model.answered(target, user, *(read[name] for name in self.model.between.answers))
        scored = self.model.scored(target, found, item_vector, read)
        return (scored.logit,) if scored.weight is None else (scored.logit, scored.weight)


def write_kernel_graphs(model: KernelModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, folder: Path) -> None:
    """Write them.

    Args:
        inputs: a real request, to trace with.
    """
    model, between = model.eval(), model.between
    before, after = inputs_around(between, model.input_names)
    arrays, axes = {**tables, **inputs}, AXES | model.answer_axes | table_axes(model, tables)
    fixed = {"K"} if model.fixed_k else set()
    if between.before:
        export_part(_Before(model, before), before, arrays, axes, list(between.operands), folder / between.before, fixed)
        with torch.no_grad():
            computed = _Before(model, before)(*(torch.from_numpy(arrays[name]) for name in (ITEM_VECTOR, *before)))
        operands = [as_array(operand) for operand in computed]
    else:
        state = {name: tables[f"initial_{name}"][None] for name in state_axes(model)}
        operands = operands_in(between, tables)(inputs | state)
    arrays |= dict(zip(between.answers, (answer.copy() for answer in between.kernel(*operands)), strict=True))
    outputs = ["logit", "weight"] if model.explains else ["logit"]
    export_part(_After(model, after), after, arrays, axes, outputs, folder / between.after, fixed)
