"""The two graphs around a relevance that is computed in pairs, for scorers on a processor: before it and after it.

What a kernel does is not in them (`store.pair_unit`). Both read a request as the whole graph does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import export_part, table_axes
from export.models.pairing import PairModel, PairOperands
from store.bundle import AFTER_PAIRS, BEFORE_PAIRS, ITEM_VECTOR, split_pair_inputs
from store.graph_inputs import AXES, GraphInputs
from store.pair_unit import OPERANDS
from store.search.lanes import LANES
from store.search.tiles import COLUMNS

ANSWER_AXES = {"relevance": ("H", "K", "S"), "behaviour": ("H", "K", "D")}
FIRST, SECOND = ("offset", "of_target", "of_product", "first_gate"), ("second", "second_gate", "out")  # last axis: a layer's


class _Before(nn.Module):
    """What the kernel computes from, layers as wide as it wants them: units that are added have weights of 0."""

    def __init__(self, model: PairModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        found = self.model.operands(target, self.model.user(item_vector, read))
        wide = {name: _widened(getattr(found, name), -1, LANES) for name in FIRST}
        wide |= {name: _widened(getattr(found, name), -1, COLUMNS) for name in SECOND}
        return tuple(found._replace(**wide | {"second": _widened(wide["second"], -2, LANES)}))


class _After(nn.Module):
    """Logits and weights from the relevance of pairs."""

    def __init__(self, model: PairModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        relevance = read["relevance"].transpose(1, 2).unsqueeze(1)  # [H, 1, S, K]
        found = self.model.found(relevance, read["behaviour"].unsqueeze(1), self.model.user(item_vector, read))
        scored = self.model.scored(target, found, item_vector, read)
        return scored.logit, scored.weight  # type: ignore[return-value]


def _widened(tensor: Tensor, axis: int, to: int) -> Tensor:
    """With zeros, to a multiple of what the kernel takes at once."""
    beyond = -tensor.shape[axis] % to
    return tensor if not beyond else nn.functional.pad(tensor, (0, 0) * (-axis - 1) + (0, beyond))


def write_pair_graphs(model: PairModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, folder: Path) -> None:
    """Write both.

    Args:
        inputs: a real request, to trace with.
    """
    model = model.eval()
    before, after = split_pair_inputs(model.input_names)
    arrays, axes = {**tables, **inputs}, AXES | ANSWER_AXES | table_axes(model, tables)
    fixed = {"K"} if model.fixed_k else set()
    export_part(_Before(model, before), before, arrays, axes, list(OPERANDS), folder / BEFORE_PAIRS, fixed)
    read = {name: torch.from_numpy(arrays[name]) for name in (ITEM_VECTOR, *before)}
    with torch.no_grad():
        found = PairOperands(*_Before(model, before)(*read.values()))
    heads, behaviours, dim = found.behaviour.shape
    arrays["behaviour"] = np.zeros((heads, behaviours, dim), np.float32)
    arrays["relevance"] = np.zeros((heads, behaviours, found.target.shape[1]), np.float32)
    export_part(_After(model, after), after, arrays, axes, ["logit", "weight"], folder / AFTER_PAIRS, fixed)
