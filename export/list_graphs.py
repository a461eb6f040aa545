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
from export.models.attending import AttendingModel
from store.bundle import AFTER, BEFORE, ITEM_VECTOR, split_inputs
from store.graph_inputs import AXES, GraphInputs
from store.search.lanes import LANES

POOLED_AXES = ("U", "G", "S", "H", "W")


class _Before(nn.Module):
    """Queries of the candidates, and of the behaviours what the kernels cannot read from the table of items."""

    def __init__(self, model: AttendingModel, names: list[str], whole: bool) -> None:
        super().__init__()
        self.model, self.names, self.whole = model, names, whole

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        read = dict(zip(self.names, inputs, strict=True))
        read["retrieved_mask"] = torch.ones_like(read["retrieved_row"], dtype=torch.bool)  # read by nothing that is left
        query = self.model.queries(nn.functional.embedding(read["candidate_row"], item_vector))
        behaviour = self.model.behaviours(self.model.user(item_vector, read))
        beyond = -query.shape[-1] % LANES  # as wide as the kernels want them
        zeros = behaviour[0].new_zeros(()).expand(*behaviour[0].shape[:-1], beyond)
        return nn.functional.pad(query, (0, beyond)), torch.cat([*behaviour[0 if self.whole else 1 :], zeros], dim=-1)


class _After(nn.Module):
    """Logits from what the heads pooled."""

    def __init__(self, model: AttendingModel, names: list[str], width: int) -> None:
        super().__init__()
        self.model, self.names, self.width = model, names, width

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> tuple[Tensor]:
        read = dict(zip(self.names, inputs, strict=True))
        target = nn.functional.embedding(read["candidate_row"], item_vector)
        found = self.model.found(read["pooled"][..., : self.width])
        return (self.model.scored(target, found, item_vector, read).logit,)


def write_list_graphs(model: AttendingModel, tables: Mapping[str, NDArray[Any]], inputs: GraphInputs, folder: Path) -> None:
    """Write both.

    Args:
        inputs: a real request in lists, to trace with.
    """
    model = model.eval()
    before, after = split_inputs(model.input_names)
    arrays, axes = {**tables, **inputs}, AXES | {"pooled": POOLED_AXES} | table_axes(model, tables)
    target = torch.from_numpy(tables[ITEM_VECTOR])[:1].reshape(1, 1, 1, -1)
    with torch.no_grad():
        *_, heads, width = model.queries(target).shape
    candidates = inputs["candidate_row"].shape[2]
    arrays["pooled"] = np.zeros((1, 1, candidates, heads, width + -width % LANES), np.float32)
    whole = model.tells_outcomes or model.config.dim % LANES != 0
    outputs = ["query", "behaviour" if whole else "side"]
    export_part(_Before(model, before, whole), before, arrays, axes, outputs, folder / BEFORE)
    export_part(_After(model, after, width), after, arrays, axes, ["logit"], folder / AFTER)
