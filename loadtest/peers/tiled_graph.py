"""Our models exported as one would without thinking of one user: a row a candidate, the user's behaviours in each.

Same weights, same answers as the bundle's graph after its search; what is left out are the forms that make it fast: behaviours
once per user, projections folded into the query (attention projects every behaviour's key here, DIN's unit reads [q, k, q - k,
q * k]), tables of projections and signatures made beforehand, and searches of our own. Behaviours come newest first,
since TopK prefers low indices. In both, values are pooled before W_v.

    candidate_row [C, 1, 1]   retrieved_*, recent_* and context as in store.graph_inputs with U = C
    life_row [C, L]           life_cross [C, L, 1 + J]   in place of retrieved_*, where behaviours are searched
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import write_graph
from export.layers.attention import TargetAttention
from export.layers.masking import masked_softmax
from export.models.attending import AttendingModel
from export.models.contract import CTRModel, Interest, Sequence
from export.models.din import AttentionUnit
from export.models.twin import TWIN
from loadtest.peers.forward_tiled import CANDIDATE_ROW, FEED, GRAPH, ITEM_VECTOR, feed
from store.graph_inputs import GraphInputs, cross_with_gap
from store.types import Behaviours

Search = Callable[[Any, Tensor, Tensor, Tensor], Tensor]  # model, target [C, D], item [C, L, D], cross -> index [C, K]


class ProjectedKeys(nn.Module):
    """A `TargetAttention` that projects every behaviour, and not the query back."""

    def __init__(self, folded: TargetAttention, beyond: Tensor | None = None) -> None:
        """`beyond`: float32 [H, ..], what heads ask of the part of a behaviour that is no key, whatever the target."""
        super().__init__()
        self.query, self.key, self.head_dim, self.beyond = folded.query, folded.key, folded.head_dim, beyond

    def forward(self, target: Tensor, behaviour: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As `TargetAttention.forward`."""
        width = self.key.shape[1]
        key = torch.einsum("ugki,hid->ughkd", behaviour[..., :width], self.key)
        query = torch.einsum("ugsi,hid->ughsd", target, self.query / math.sqrt(self.head_dim))
        logits = torch.matmul(query, key.transpose(-1, -2))  # [U, G, H, S, K]
        if self.beyond is not None:
            logits = logits + torch.matmul(self.beyond, behaviour[..., width:].transpose(2, 3)).unsqueeze(3)
        weight = masked_softmax(logits, mask[:, :, None, None])
        return torch.matmul(weight, behaviour.unsqueeze(2)), weight


class ProjectedInterest(nn.Module):
    """The interest of an `AttendingModel` by its attention over projected keys."""

    def __init__(self, model: AttendingModel) -> None:
        super().__init__()
        beyond = model.bias().detach().flatten(1) if isinstance(model, TWIN) else None
        self.attention = ProjectedKeys(model.attention, beyond)
        self.side, self.found = model.side, model.found

    def forward(self, target: Tensor, user: Sequence) -> Interest:
        """As `AttendingModel.interest`, without weights."""
        return self.found(self.attention(target, torch.cat([user.item, self.side(user)], dim=-1), user.mask)[0])


class WholeUnit(nn.Module):
    """An `AttentionUnit` whose first layer reads [q, k, q - k, q * k] of each pair; the third part has no weight of its own."""

    def __init__(self, folded: AttentionUnit) -> None:
        super().__init__()
        self.rest = folded
        parts = [folded.from_target.weight, folded.from_behaviour.weight]
        weight = torch.cat([*parts, torch.zeros_like(parts[0]), folded.from_product.weight], dim=1)
        self.weight, self.bias = nn.Parameter(weight), folded.from_target.bias

    def forward(self, target: Tensor, item: Tensor, mask: Tensor) -> Tensor:
        """As `AttentionUnit.forward`."""
        shape = (*target.shape[:3], *item.shape[2:])  # [U, G, S, K, D]
        q, k = target.unsqueeze(3).expand(shape), item.unsqueeze(2).expand(shape)
        hidden = nn.functional.linear(torch.cat([q, k, q - k, q * k], dim=-1), self.weight, self.bias)
        real = mask.unsqueeze(2).expand(shape[:-1])
        hidden = self.rest.second_dice(self.rest.second(self.rest.first_dice(hidden, real)), real)
        relevance: Tensor = self.rest.out(hidden).squeeze(-1)
        return relevance


def _largest_products(model: Any, target: Tensor, item: Tensor, _cross: Tensor) -> Tensor:
    key, query = torch.matmul(item, model.from_behaviour), torch.matmul(target, model.from_target)
    return torch.topk(torch.matmul(key, query.unsqueeze(-1)).squeeze(-1), model.config.k).indices


def _nearest_signatures(model: Any, target: Tensor, item: Tensor, _cross: Tensor) -> Tensor:
    bits, own = torch.matmul(item, model.directions) > 0, torch.matmul(target, model.directions) > 0
    return torch.topk((bits == own.unsqueeze(1)).float().sum(dim=-1), model.config.k).indices


def _heads_in_turn(model: Any, target: Tensor, item: Tensor, cross: Tensor) -> Tensor:
    """The k behaviours that a round robin over the heads' lists meets first: those whose first place in it is lowest."""
    attention, k = model.attention, model.config.k
    key = torch.einsum("cld,hde->chle", item, attention.key)
    query = torch.einsum("cd,hde->che", target, attention.query / math.sqrt(attention.head_dim))
    relevance = torch.matmul(key, query.unsqueeze(-1)).squeeze(-1)  # [C, H, L]
    relevance = relevance + torch.matmul(model.bias().flatten(1), model.cross(cross).flatten(-2).transpose(1, 2))
    best = torch.topk(relevance, k).indices
    heads = best.shape[1]
    place = torch.arange(k) * heads + torch.arange(heads).unsqueeze(1)  # [H, k], where the round robin meets it
    never = torch.full(item.shape[:2], float(k * heads))
    first = never.scatter_reduce(1, best.flatten(1), place.float().expand(len(item), -1, -1).flatten(1), "amin")
    return torch.topk(-first, k).indices


SEARCHES: dict[str, Search] = {
    "sim_soft": _largest_products,
    "eta": _nearest_signatures,
    "twin": _heads_in_turn,
}  # those of other models have no torch form, or need none


class TiledModel(nn.Module):
    """A model over a batch of candidates with the user in every row: logits [C]."""

    def __init__(self, model: CTRModel, name: str, inputs: list[str]) -> None:
        super().__init__()
        own: Any = copy.deepcopy(model).eval()
        self.model = own
        self.names, self.search = inputs, SEARCHES.get(name)
        if isinstance(model, AttendingModel):
            own.interest = ProjectedInterest(own)
        if isinstance(folded := getattr(model, "recent_attention", None), TargetAttention):
            own.recent_attention = ProjectedKeys(folded)
            own.of_recent = lambda *read: own.recent_out(own.recent_attention(*read)[0])
        if isinstance(unit := getattr(model, "unit", None), AttentionUnit):
            own.unit = WholeUnit(unit)

    def forward(self, item_vector: Tensor, *inputs: Tensor) -> Tensor:
        read = dict(zip(self.names, inputs, strict=True))
        if self.search is not None:
            row, cross = read.pop("life_row"), read.pop("life_cross")
            target = nn.functional.embedding(read[CANDIDATE_ROW].flatten(), item_vector)
            index = self.search(self.model, target, nn.functional.embedding(row, item_vector), cross)  # [C, K]
            read["retrieved_row"] = torch.gather(row, 1, index).unsqueeze(1)
            wide = index.unsqueeze(-1).expand(-1, -1, cross.shape[-1])
            read["retrieved_cross"] = torch.gather(cross, 1, wide).unsqueeze(1)
            read["retrieved_gap"] = read["retrieved_cross"][..., 0]
            read["retrieved_mask"] = torch.ones_like(read["retrieved_row"], dtype=torch.bool)
        logit: Tensor = self.model(item_vector, read).logit
        return logit.flatten()


def export_tiled(
    model: CTRModel, name: str, item_vector: NDArray[np.float32], inputs: GraphInputs, life: Behaviours, at: int, folder: Path
) -> None:  # fmt: skip
    """Write the graph and what it is fed, for the candidates and the behaviours of one searched request.

    Args:
        inputs: what the bundle's graph would be fed.
        life: everything there is to search, at least K of them.
    """
    one: dict[str, Any] = {key: inputs[key] for key in model.input_names if key != CANDIDATE_ROW}
    if name in SEARCHES:
        newest_first = life.select(slice(None, None, -1))
        one = {key: array for key, array in one.items() if not key.startswith("retrieved")}
        one |= {"life_row": newest_first.row[None], "life_cross": cross_with_gap(newest_first, at)[None]}
    placed = inputs[CANDIDATE_ROW].ravel()
    np.savez(folder / FEED, **{ITEM_VECTOR: item_vector, CANDIDATE_ROW: placed[placed > 0], **one})
    fed = feed(folder)
    names = [key for key in fed if key != ITEM_VECTOR]
    arguments = [torch.from_numpy(np.ascontiguousarray(array)) for array in fed.values()]
    write_graph(TiledModel(model, name, names), arguments, list(fed), ["logit"], folder / GRAPH)
    onnx.checker.check_model(folder / GRAPH)
