"""A bundle's graphs around an attention in lists (`store.attention`): what is before it, and what is after it.

Both read a request in lists (`store.graph_inputs`): one group of all candidates, and of all behaviours that any retrieved.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import export_part, table_axes
from export.layers.attention import HeadOutput
from export.models.attending import AttendingModel
from export.models.contract import Interest
from store.attention import ITEM, QUERY, SIDE, SIDE_OF_GAP, VALUE
from store.bundle import AFTER, BEFORE, ITEM_VECTOR, split_inputs
from store.graph_inputs import AXES, GraphInputs
from store.search.lanes import LANES

POOLED_AXES = {"pooled": ("U", "G", "S", "HV"), "pooled_item": ("U", "G", "S", "D")}


class _Before(nn.Module):
    """Queries of the candidates, what the kernel cannot read of the behaviours in the table of items, and W_v if there is one."""

    def __init__(self, model: AttendingModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names
        self.own_items = model.tells_outcomes or model.config.dim % LANES != 0  # else they stand in the table
        side = SIDE if model.gap is None else SIDE_OF_GAP
        self.outputs = [QUERY, *[ITEM] * self.own_items, side, *[VALUE] * isinstance(model.out, HeadOutput)]

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        read = dict(zip(self.names, inputs, strict=True))
        read["retrieved_mask"] = torch.ones_like(read["retrieved_row"], dtype=torch.bool)  # read by nothing that is left
        query = self.model.queries(nn.functional.embedding(read["candidate_row"], item_vector))
        user = self.model.user(item_vector, read)
        side = self.model.side(user) if self.model.gap is None else self.model.gap.weight
        vectors = [user.item, side] if self.own_items else [side]
        value = self.model.out.values(query.shape[-1])
        padded = [torch.cat([vector, _beyond(vector)], dim=-1) for vector in vectors]
        return (query, *padded) if value is None else (query, *padded, value)


def _beyond(vector: Tensor) -> Tensor:
    """Zeros that make it as wide as the kernel wants it."""
    return vector.new_zeros(()).expand(*vector.shape[:-1], -vector.shape[-1] % LANES)


class _After(nn.Module):
    """Logits from what the heads pooled."""

    def __init__(self, model: AttendingModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        found = Interest(self.model.out.of_valued(read["pooled"]), read["pooled_item"])
        return (self.model.scored(target, found, item_vector, read).logit,)


def write_list_graphs(model: AttendingModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, folder: Path) -> None:
    """Write both.

    Args:
        inputs: a real request in lists, to trace with.
    """
    model = model.eval()
    before, after = split_inputs(model.input_names)
    arrays, axes = {**tables, **inputs}, AXES | POOLED_AXES | table_axes(model, tables)
    target = torch.from_numpy(tables[ITEM_VECTOR])[:1].reshape(1, 1, 1, -1)
    with torch.no_grad():
        _, _, heads, _, width = model.queries(target).shape
        value = model.out.values(width)
    of_all = (1, 1, inputs["candidate_row"].shape[2])
    arrays["pooled"] = np.zeros((*of_all, heads * (width if value is None else value.shape[2])), np.float32)
    arrays["pooled_item"] = np.zeros((*of_all, target.shape[-1]), np.float32)
    part = _Before(model, before)
    export_part(part, before, arrays, axes, part.outputs, folder / BEFORE)
    export_part(_After(model, after), after, arrays, axes, ["logit"], folder / AFTER)
