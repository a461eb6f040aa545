"""TWIN (Chang et al., KDD 2023): one relevance for search and attention.

Features are split: inherent ones K_h (the item's own) and cross ones K_c (of this user with this
item: here the time gap and the schema's features), each of width 8.

    alpha = (K_h W_h) (q W_q)^T / sqrt(d_k) + (K_c W_c) beta          (eq. 6), per head
    K_c W_c = [K_c1 w_1, .., K_cJ w_J], block diagonal                (eq. 5)

GSU: the 100 behaviours a round robin over the heads' ranked lists meets first; K_h W_h and q W_q are
tables of all items, made offline. ESU: softmax(alpha)^T [K_h | K_c] W_v over those 100, with alpha
computed again from the current parameters, then W_o over the heads (eq. 7-8).
Differences: none known in the formulas of GSU and ESU; W_h starts equal to W_q, as in every attention here; the
head also sees the target times the attended behaviours; the short branch is target attention over the newest 50.

`merged_search` departs from the paper in the GSU alone: one relevance, the mean of the heads' alpha, in place of the round robin.
One head of width H d_k is searched instead of H of width d_k, in less than half of the time; what one head alone looks at is
missed. Of the 100 behaviours of largest weight it returned 71, the round robin 86 (measured by `consistency.py`).
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import HeadOutput, TargetAttention
from export.layers.embedding import CrossEmbedding
from export.models.attending import AttendingModel
from export.models.contract import DataShape, ModelConfig, Sequence, as_array
from export.models.registry import register


class CrossBias(nn.Module):
    """(K_c W_c) beta: one number per head from the cross features' embeddings."""

    def __init__(self, features: int, width: int, heads: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(heads, features, width) / math.sqrt(width))  # W_c: w_j of each head
        self.beta = nn.Parameter(torch.ones(heads, features))

    def forward(self) -> Tensor:
        """float32 [H, J, width]: what each head asks of the embedded features, whatever the target."""
        return self.projection * self.beta.unsqueeze(-1)


@dataclass(frozen=True)
class TWINConfig(ModelConfig):
    """Sizes, and how the heads search."""

    merged_search: bool = False  # by the mean of the heads' relevances: one list, less than half of the time


@register("twin")
class TWIN(AttendingModel):
    """TWo-stage Interest Network."""

    config: TWINConfig
    config_type = TWINConfig
    search_name = "projection"
    reads: ClassVar[tuple[str, ...]] = ("retrieved_row", "retrieved_mask", "retrieved_cross")
    embeds_cross = True

    def __init__(self, shape: DataShape, config: TWINConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)
        features = len(shape.cross_features)
        self.cross = CrossEmbedding(shape.cross_features, config.side_dim)
        self.bias = CrossBias(features, config.side_dim, config.heads)
        self.attention = TargetAttention(config.dim, 0, config.heads, config.head_dim)
        self.out = HeadOutput(config.heads, config.dim + features * config.side_dim, config.head_dim, config.dim)

    def queries(self, target: Tensor) -> Tensor:
        of_item = super().queries(target)  # [U, G, H, S, D]
        of_cross = self.bias().flatten(1).unsqueeze(1).expand(*of_item.shape[:4], -1)
        return torch.cat([of_item, of_cross], dim=-1)

    def side(self, user: Sequence) -> Tensor:
        side: Tensor = self.cross(user.cross).flatten(-2)
        return side

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """`key_projection`, `query_projection` float32 [n, H, d_k], `cross_bias` float32 [1 + J, buckets, H]; of one head for H,
        that is their mean, with `merged_search`: [n, 1, H * d_k] and [1 + J, buckets, 1]."""
        attention = self.attention
        key = as_array(torch.einsum("nd,hde->nhe", item_vector, attention.key))
        query = as_array(torch.einsum("nd,hde->nhe", item_vector, attention.query / math.sqrt(attention.head_dim)))
        bias = self._cross_bias()
        if self.config.merged_search:
            heads = np.float32(self.config.heads)
            key, query, bias = (
                key.reshape(len(key), 1, -1),
                query.reshape(len(query), 1, -1) / heads,
                bias.mean(-1, keepdims=True),
            )
        return {"key_projection": key, "query_projection": query, "cross_bias": bias}

    def _cross_bias(self) -> NDArray[np.float32]:
        sizes = self.shape.cross_features
        weight = self.bias()  # [H, J, width]
        table = np.zeros((len(sizes), max(sizes), self.config.heads), np.float32)
        embedded = torch.split(self.cross.table.weight, sizes)
        for j, values in enumerate(embedded):
            table[j, : sizes[j]] = as_array(values @ weight[:, j].T)
        return table
