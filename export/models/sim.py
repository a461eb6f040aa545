"""SIM (Pi et al., CIKM 2020), hard and soft: search the whole life, attend to what was found.

Hard search: behaviours of the candidate's category, no parameters (3.2). Soft search: the K largest
r_i = (W_b e_i) . (W_a e_a) (eq. 2), trained by a click prediction of its own from U_r = sum_i r_i e_i
and e_a, over a random part of the life; both losses weigh the same (eq. 5).
ESU of both: z_j = [e_j; e_t], e_t the embedding of the bucketed time gap; att_i = softmax(W_bi z .
W_ai e_a), head_i = att_i z, heads side by side: there is no W_v (eq. 3-4).
Differences: the short branch is target attention over the newest 50, where the paper's figure shows
DIEN over 14 days. Logits are divided by sqrt(d_k). The newest K = 100 of a category are kept (paper:
200). Soft search is exact, not by an approximate index, and its U_r is a mean, so that it does not grow
with the sample; both stages share the item embeddings.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import GAIN, TargetAttention
from export.layers.head import Head
from export.models.attending import AttendingModel
from export.models.contract import DataShape, Interest, ModelConfig, Sequence, as_array
from export.models.registry import register


class SIM(AttendingModel):
    """What both have: the exact search unit."""

    def __init__(self, shape: DataShape, config: ModelConfig) -> None:
        super().__init__(shape, config, interest_dim=config.heads * (config.dim + config.side_dim))
        self.gap = nn.Embedding(shape.cross_features[0], config.side_dim)
        self.attention = TargetAttention(config.dim, config.side_dim, config.heads, config.head_dim)


@register("sim_hard")
class SIMHard(SIM):
    """Search-based Interest Model, hard search."""

    search_name = "category"


@dataclass(frozen=True)
class SIMSoftConfig(ModelConfig):
    """Sizes of the soft search."""

    search_dim: int = 32  # d', width of W_b e and W_a e


@register("sim_soft")
class SIMSoft(SIM):
    """Search-based Interest Model, soft search."""

    config_type = SIMSoftConfig
    search_name = "projection"
    training_reads = ("sampled_row",)

    def __init__(self, shape: DataShape, config: SIMSoftConfig) -> None:
        super().__init__(shape, config)
        first = torch.randn(config.dim, config.search_dim) * GAIN / math.sqrt(config.dim)
        self.from_behaviour, self.from_target = nn.Parameter(first), nn.Parameter(first.clone())  # W_b, W_a
        self.search_head = Head(2 * config.dim)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        found = super().interest(target, user)
        return found._replace(auxiliary_logit=self._search_logit(target, user)) if self.training else found

    def _search_logit(self, target: Tensor, user: Sequence) -> Tensor:
        """The search's own prediction [U, G, S], from a sample of the life."""
        item = user.look_up("sampled_row")  # [U, n, D], zeros at padding
        query = torch.matmul(target.flatten(1, 2), self.from_target)  # [U, P, d']
        relevance = torch.matmul(query, torch.matmul(item, self.from_behaviour).transpose(1, 2))  # [U, P, n]
        count = user.inputs["sampled_mask"].sum(dim=1).clamp(min=1)[:, None, None]
        pooled = torch.matmul(relevance, item) / count  # [U, P, D]
        logit: Tensor = self.search_head([pooled, target.flatten(1, 2)])
        return logit.view(target.shape[:3])

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """`key_projection`, `query_projection` float32 [n, 1, d'] and a `cross_bias` of zeros [1 + J, buckets, 1]."""
        sizes = self.shape.cross_features
        return {
            "key_projection": as_array(torch.matmul(item_vector, self.from_behaviour).unsqueeze(1)),
            "query_projection": as_array(torch.matmul(item_vector, self.from_target).unsqueeze(1)),
            "cross_bias": np.zeros((len(sizes), max(sizes), 1), np.float32),
        }
