"""What every model is: a graph shaped like a request, a search, and the tables both read.

A model file holds a paper's own part: `interest`. What all share is here: looking vectors up in the
item table, the short branch over the newest behaviours, the head. The same forward is run on U
training requests and, exported, on one live request; behaviours stand once per user, never once per
candidate.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import HeadOutput, TargetAttention
from export.layers.embedding import CrossEmbedding, ItemEmbedding
from export.layers.head import Head
from store.search import SearchSpec


@dataclass(frozen=True)
class DataShape:
    """Sizes that come from the data set."""

    item_features: list[int]  # [F] values of each item feature
    cross_features: list[int]  # [1 + J] buckets of the gap, then of each cross feature
    context: list[int]  # [F] values of each context feature


@dataclass(frozen=True)
class ModelConfig:
    """Sizes that the model chooses; a paper's own are added by its subclass."""

    dim: int = 64  # D
    heads: int = 4  # H
    head_dim: int = 16  # d_k
    side_dim: int = 8  # width of a cross feature's embedding
    context_dim: int = 4
    k: int = 100  # K, retrieved for each candidate
    recent: int = 50  # R, newest behaviours of the short branch; 0 = none
    seed: int = 0  # of random tensors that belong to the model


class Sequence(NamedTuple):
    """Behaviours inside the graph: what they are, how they were, and which are real."""

    item: Tensor  # [U, G, K, D]
    cross: Tensor  # int32 [U, G, K, 1 + J]
    mask: Tensor  # bool [U, G, K]


class CTRModel(nn.Module):
    """Base of all models.

    Subclasses set `search_name`, `explains` and `interest_dim`, and implement `interest`; a searched
    one adds `search_tables`.
    """

    config_type: ClassVar[type[ModelConfig]] = ModelConfig
    search_name: ClassVar[str]
    explains: ClassVar[bool] = True
    reads_cross: ClassVar[bool] = True  # whether the graph reads retrieved_cross

    def __init__(self, shape: DataShape, config: ModelConfig, interest_dim: int) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.items = ItemEmbedding(shape.item_features, config.dim)
        self.context = CrossEmbedding(shape.context, config.context_dim) if shape.context else None
        head_in = 2 * config.dim + interest_dim + len(shape.context) * config.context_dim
        if config.recent:
            self.recent_gap = nn.Embedding(shape.cross_features[0], config.side_dim)
            self.recent_attention = TargetAttention(config.dim, config.side_dim, config.heads, config.head_dim)
            self.recent_out = HeadOutput(config.heads, config.dim + config.side_dim, config.head_dim, config.dim)
            head_in += 2 * config.dim
        self.head = Head(head_in)

    @property
    def search_spec(self) -> SearchSpec:
        """The search of this model, as the manifest will state it."""
        return SearchSpec.model_validate({"name": self.search_name, "k": self.config.k})

    @property
    def input_names(self) -> list[str]:
        """Request inputs that the graph reads, of those in `store.graph_inputs`."""
        names = ["candidate_row", "retrieved_row", "retrieved_mask"]
        names += ["retrieved_cross"] * self.reads_cross
        names += ["recent_row", "recent_cross", "recent_mask"] if self.config.recent else []
        return names + ["context"] * bool(self.shape.context)

    def forward(self, item_vector: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Score.

        Args:
            item_vector: float32 [N, D], or of the batch's own items with rows renumbered.
            inputs: as in `store.graph_inputs`.

        Returns:
            logit float32 [U, G * S] and weight float32 [U, G * S, K], the attention on each
            retrieved behaviour, mean over heads.
        """
        candidate_row = inputs["candidate_row"]  # [U, G, S]
        target = nn.functional.embedding(candidate_row, item_vector)  # [U, G, S, D]
        retrieved = Sequence(
            nn.functional.embedding(inputs["retrieved_row"], item_vector),
            inputs["retrieved_cross"] if self.reads_cross else inputs["retrieved_mask"],
            inputs["retrieved_mask"],
        )
        interest, like_target, weight = self.interest(target, retrieved)
        parts = [target.flatten(1, 2), interest.flatten(1, 2), (target * like_target).flatten(1, 2)]
        if self.config.recent:
            recent = self._recent(target.flatten(1, 2).unsqueeze(1), item_vector, inputs).squeeze(1)  # [U, P, D]
            parts += [recent, parts[0] * recent]
        if self.context is not None:
            context = self.context(inputs["context"]).flatten(1).unsqueeze(1)  # [U, 1, F * width]
            parts.append(context.expand(-1, parts[0].shape[1], -1))
        return self.head(parts), weight.flatten(1, 2)

    def interest(self, target: Tensor, retrieved: Sequence) -> tuple[Tensor, Tensor, Tensor]:
        """The paper's own part.

        Returns:
            interest [U, G, S, interest_dim]; a vector [U, G, S, D] in the space of items, for the
            product with the target; weights [U, G, S, K].
        """
        raise NotImplementedError

    def search_tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """Tables the search needs beside the rows, for the items given: [n, ...] each, or constants."""
        return {}

    def _recent(self, target: Tensor, item_vector: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Short branch: target attention over the newest R, all candidates one group. [U, 1, P, D]."""
        item = nn.functional.embedding(inputs["recent_row"], item_vector).unsqueeze(1)  # [U, 1, R, D]
        gap = self.recent_gap(inputs["recent_cross"][..., 0]).unsqueeze(1)  # [U, 1, R, side]
        pooled = self.recent_attention(target, item, gap, inputs["recent_mask"].unsqueeze(1))
        out: Tensor = self.recent_out(torch.cat(pooled[:2], dim=-1))
        return out

    def settings(self) -> dict[str, Any]:
        """Shape and config as JSON, enough to build the same model again."""
        return {"shape": asdict(self.shape), "config": asdict(self.config)}


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor's values for the search kernels, contiguous, without gradient."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
