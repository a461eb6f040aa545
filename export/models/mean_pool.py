"""GwEN: group-wise embedding network (the base model of DIN, Zhou et al., KDD 2018, section 4.2). No search, no attention.

Every behaviour counts the same, whatever the target: v_U = (1 / L) sum_j e_j.
Differences: the papers pool by sum (DIN) or leave it open; a mean keeps its scale whatever the length. The
head sees target x interest beside the two and is 200-80-1, as in every model here (DIN's base: 192-200-80-2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from export.layers.head import Mixture
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register


@dataclass(frozen=True)
class MeanPoolConfig(ModelConfig):
    """One short sequence, no second branch."""

    k: int = 50  # newest behaviours
    recent: int = 0


@register("mean_pool")
class MeanPool(CTRModel):
    """Mean of the newest behaviours."""

    config_type = MeanPoolConfig
    search_name = "newest"
    explains = False
    reads = ("retrieved_row", "retrieved_mask")

    def __init__(self, shape: DataShape, config: MeanPoolConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        real = user.mask.unsqueeze(2).to(user.item.dtype)  # [U, G, 1, K]
        count = real.sum(dim=-1, keepdim=True).clamp(min=1)  # of the empty user 1: its mean is zero
        mean = torch.matmul(real, user.item) / count  # [U, G, 1, D], and G is 1
        return Interest(Mixture(torch.ones_like(target[..., :1]), mean.squeeze(1)), mean.expand_as(target))
