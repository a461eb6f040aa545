"""What every model is: a graph shaped like a request, a search, and the tables both read.

A model file holds a paper's own part: `interest`. What all share is here: looking vectors up in the
item table, the short branch over the newest behaviours, the head. The same forward is run on U
training requests and, exported, on one live request; behaviours stand once per user, never once per
candidate. Models that score from a state instead of a sequence: `stateful.py`.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import HeadOutput, TargetAttention, attend_to_few
from export.layers.embedding import CrossEmbedding, ItemEmbedding
from export.layers.head import Head, Mixture
from store.search import SEARCHES, SearchSpec


@dataclass(frozen=True)
class DataShape:
    """Sizes that come from the data set."""

    item_features: list[int]  # [F] values of each item feature
    cross_features: list[int]  # [1 + J] buckets of the gap, then of each cross feature
    context: list[int]  # [F] values of each context feature
    negative_behaviours: bool = False  # as in the schema


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
    trained_length: int | None = None  # newest behaviours that a training request reads; None = the whole life
    item_l2: float = 0.0  # lambda of the mini-batch-aware L2 on item embeddings (DIN, 5.1)


class Sequence(NamedTuple):
    """Behaviours inside the graph: what they are, how they were, and which are real."""

    item: Tensor  # [U, G, K, D]
    mask: Tensor  # bool [U, G, K]
    inputs: dict[str, Tensor]  # all of the batch, for what only some models read
    item_vector: Tensor  # [N, D], to look up other rows of the inputs

    @property
    def cross(self) -> Tensor:
        """How the behaviours were: int32 [U, G, K, 1 + J], the gap's bucket first."""
        return self.inputs["retrieved_cross"]

    @property
    def gap(self) -> Tensor:
        """The gap's bucket alone: int32 [U, G, K]."""
        return self.inputs["retrieved_gap"]

    def look_up(self, name: str) -> Tensor:
        """Item vectors [..., D] of an input that holds rows."""
        return nn.functional.embedding(self.inputs[name], self.item_vector)

    def look_up_table(self, table: str, rows: str) -> Tensor:
        """Entries [..., *] of an item table for an input that holds rows."""
        return nn.functional.embedding(self.inputs[rows], self.inputs[table])


class Interest(NamedTuple):
    """What a paper's own part gives; the last two in training only."""

    vector: Tensor | Mixture | tuple[Tensor | Mixture, ...]  # [U, G, S, interest_dim], or parts of it side by side
    like_target: Tensor  # [U, G, S, D], in the space of items, for the product with the target
    weight: Tensor | None = None  # [U, G, S, K], mean over heads
    auxiliary_loss: Tensor | None = None  # scalar, already weighted
    auxiliary_logit: Tensor | None = None  # [U, G, S], a second prediction of the labels

    @property
    def parts(self) -> tuple[Tensor | Mixture, ...]:
        """The vector as parts side by side, one at least."""
        return (self.vector,) if isinstance(self.vector, Tensor | Mixture) else self.vector


class Scored(NamedTuple):
    """Output of a model; the last two in training only."""

    logit: Tensor  # [U, C], candidates in the caller's order
    weight: Tensor | None  # [U, P, K], None: the model has no weight per behaviour
    auxiliary_loss: Tensor | None
    auxiliary_logit: Tensor | None  # [U, C]


class CTRModel(nn.Module):
    """Base of all models.

    Subclasses set `search_name`, `explains` and `interest_dim`, and implement `interest`; one whose
    search or graph reads item tables adds `tables`.
    """

    config_type: ClassVar[type[ModelConfig]] = ModelConfig
    search_name: ClassVar[str]
    explains: ClassVar[bool] = True  # has a weight per retrieved behaviour
    fixed_k: ClassVar[bool] = False  # the graph is made for exactly K behaviours
    reads: ClassVar[tuple[str, ...]] = ("retrieved_row", "retrieved_mask", "retrieved_gap")  # of the retrieved
    training_reads: ClassVar[tuple[str, ...]] = ()  # inputs that `Batcher` makes in training only
    embeds_cross: ClassVar[bool] = False  # has its own way to read how behaviours were
    slow: ClassVar[tuple[str, ...]] = ()  # children and parameters learnt at a tenth of the rate: those that write a memory
    scored_at_once: ClassVar[int] = 32  # requests of an evaluation batch
    graph_tables: ClassVar[tuple[str, ...]] = ()  # of `tables`, those that the graph reads beside item_vector

    def __init__(self, shape: DataShape, config: ModelConfig, interest_dim: int) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        self.items = ItemEmbedding(shape.item_features, config.dim)
        self.context = CrossEmbedding(shape.context, config.context_dim) if shape.context else None
        told = shape.negative_behaviours and len(shape.cross_features) > 1
        reads_items = bool(self.reads) and not self.embeds_cross
        self.outcome = CrossEmbedding(shape.cross_features[1:], config.dim) if told and (reads_items or config.recent) else None
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
        cross = ["retrieved_cross"] if self.tells_outcomes and "retrieved_cross" not in self.reads else []
        place = ["candidate_place"] if SEARCHES[self.search_name].deals else []
        return ["candidate_row", *place, *self.reads, *cross, *self.branch_names]

    @property
    def constants(self) -> set[str]:
        """Of `tables`, those that have no axis of items."""
        return set(SEARCHES[self.search_name].constants)

    @property
    def batch_names(self) -> list[str]:
        """Request inputs that a training batch holds; a graph's may be others."""
        return self.input_names

    @property
    def branch_names(self) -> list[str]:
        """Request inputs that the head reads beside targets and interests."""
        names = ["recent_row", "recent_cross", "recent_mask"] if self.config.recent else []
        return names + ["context"] * bool(self.shape.context)

    def forward(self, item_vector: Tensor, inputs: dict[str, Tensor]) -> Scored:
        """Score.

        Args:
            item_vector: float32 [N, D], or of the batch's own items with rows renumbered.
            inputs: as in `store.graph_inputs`, and the model's `graph_tables`, rows as in item_vector.
        """
        placed = nn.functional.embedding(inputs["candidate_row"], item_vector)  # [U, G, S, D]
        return self.scored(placed, self.interest(placed, self.user(item_vector, inputs)), item_vector, inputs)

    def scored(self, placed: Tensor, found: Interest, item_vector: Tensor, inputs: dict[str, Tensor]) -> Scored:
        """The head over targets [U, G, S, D], the interests found in the user, and what all models read."""
        target, like_target = in_order(placed, inputs), in_order(found.like_target, inputs)
        interest = (
            in_order(part, inputs) if isinstance(part, Tensor) else Mixture(in_order(part.share, inputs), part.few)
            for part in found.parts
        )
        parts: list[Tensor | Mixture] = [target, *interest, target * like_target]  # [U, C, *]
        if self.config.recent:
            recent = self._recent(target.unsqueeze(1), item_vector, inputs).squeeze(1)  # [U, C, D]
            parts += [recent, target * recent]
        if self.context is not None:
            context = self.context(inputs["context"]).flatten(1).unsqueeze(1)  # [U, 1, F * width]
            parts.append(context.expand(-1, target.shape[1], -1))
        weight = None if found.weight is None else found.weight.flatten(1, 2)
        second = None if found.auxiliary_logit is None else in_order(found.auxiliary_logit.unsqueeze(-1), inputs).squeeze(-1)
        return Scored(self.head(parts), weight, found.auxiliary_loss, second)

    def user(self, item_vector: Tensor, inputs: dict[str, Tensor]) -> Any:
        """What `interest` is told of the user: the retrieved behaviours."""
        retrieved = nn.functional.embedding(inputs["retrieved_row"], item_vector)
        if self.tells_outcomes:
            retrieved = self.with_outcome(retrieved, inputs["retrieved_cross"])  # not in the graph otherwise
        return Sequence(retrieved, inputs["retrieved_mask"], inputs, item_vector)

    @property
    def tells_outcomes(self) -> bool:
        """Whether what was retrieved is told apart by `with_outcome`, and not its items' vectors alone."""
        return self.outcome is not None and not self.embeds_cross

    def with_outcome(self, item: Tensor, cross: Tensor) -> Tensor:
        """Behaviours [..., D], an embedding of their cross features int32 [..., 1 + J] but the gap added to each where the
        data keeps negative behaviours: there one that went well and one that went badly are of the same item."""
        return item if self.outcome is None else item + self.outcome(cross[..., 1:]).sum(dim=-2)

    def interest(self, target: Tensor, user: Any) -> Interest:
        """The paper's own part: interest of each target [U, G, S, D] in what `user` gave."""
        raise NotImplementedError

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """Tables the search or the graph needs beside the vectors, for the items given: [n, ...] each, or constants."""
        return {}

    def _recent(self, target: Tensor, item_vector: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Short branch: target attention over the newest R, all candidates one group. [U, 1, C, D]."""
        item = nn.functional.embedding(inputs["recent_row"], item_vector).unsqueeze(1)  # [U, 1, R, D]
        item = self.with_outcome(item, inputs["recent_cross"].unsqueeze(1))
        gap = self.recent_gap(inputs["recent_cross"][..., 0]).unsqueeze(1)  # [U, 1, R, side]
        return self.of_recent(target, torch.cat([item, gap], dim=-1), inputs["recent_mask"].unsqueeze(1))

    def of_recent(self, target: Tensor, behaviour: Tensor, mask: Tensor) -> Tensor:
        """What targets [U, 1, S, D] find among the newest behaviours [U, 1, R, D + side]: [U, 1, S, D]."""
        return attend_to_few(self.recent_attention, target, behaviour, mask, self.recent_out.of_each(behaviour))

    def settings(self) -> dict[str, Any]:
        """Shape and config as JSON, enough to build the same model again."""
        return {"shape": asdict(self.shape), "config": asdict(self.config)}


def in_order(tensor: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """What stands at places [U, G, S, *] for each candidate, [U, C, *]: without the padding where a search deals places."""
    flat = tensor.flatten(1, 2)
    if "candidate_place" not in inputs:
        return flat
    place = inputs["candidate_place"]
    if len(flat) > 1:  # else no size is among the numbers: a captured CUDA graph cannot wait for the processor to tell it one
        place = place + torch.arange(len(flat), device=flat.device).unsqueeze(1) * flat.shape[1]
    return nn.functional.embedding(place, flat.flatten(0, 1))


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor's values for the search kernels, contiguous, without gradient."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
