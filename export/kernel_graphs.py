"""The two graphs around a kernel, for scorers on a processor: before it and after it.

What the kernel does is not in them (`store/between.py`). Both read a request as the whole graph does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import export_part, table_axes
from export.models.around_kernel import KernelModel
from export.models.contract import Interest, Sequence, as_array
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

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        user: Sequence = self.model.user(item_vector, read)
        found: Interest = self.model.answered(target, user, *(read[name] for name in self.model.between.answers))
        scored = self.model.scored(target, found, item_vector, read)
        return scored.logit, scored.weight


def write_kernel_graphs(model: KernelModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, folder: Path) -> None:
    """Write both.

    Args:
        inputs: a real request, to trace with.
    """
    model, between = model.eval(), model.between
    before, after = inputs_around(between, model.input_names)
    arrays, axes = {**tables, **inputs}, AXES | model.answer_axes | table_axes(model, tables)
    fixed = {"K"} if model.fixed_k else set()
    export_part(_Before(model, before), before, arrays, axes, list(between.operands), folder / between.before, fixed)
    with torch.no_grad():
        operands = _Before(model, before)(*(torch.from_numpy(arrays[name]) for name in (ITEM_VECTOR, *before)))
    answers = between.kernel(*(as_array(operand) for operand in operands))
    arrays |= dict(zip(between.answers, (answer.copy() for answer in answers), strict=True))
    export_part(_After(model, after), after, arrays, axes, ["logit", "weight"], folder / between.after, fixed)
