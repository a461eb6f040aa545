"""SIM with hard search (Pi et al., CIKM 2020): search the candidate's category, attend to what is there.

GSU: behaviours of the candidate's category, no parameters (3.2). ESU: z_j = [e_j; e_t], e_t the
embedding of the bucketed time gap; att_i = softmax(W_bi z . W_ai e_a), head_i = att_i z, heads side
by side: there is no W_v (eq. 3-4).
Differences: the short branch is target attention over the newest 50, where the paper's figure shows
DIEN over 14 days. Logits are divided by sqrt(d_k). The newest K = 100 of a category are kept (paper:
200).
"""

import torch
from torch import Tensor, nn

from export.layers.attention import TargetAttention
from export.models.contract import CTRModel, DataShape, ModelConfig, Sequence
from export.models.registry import register


@register("sim_hard")
class SIMHard(CTRModel):
    """Search-based Interest Model, hard search."""

    search_name = "category"

    def __init__(self, shape: DataShape, config: ModelConfig) -> None:
        super().__init__(shape, config, interest_dim=config.heads * (config.dim + config.side_dim))
        self.gap = nn.Embedding(shape.cross_features[0], config.side_dim)
        self.attention = TargetAttention(config.dim, config.side_dim, config.heads, config.head_dim)

    def interest(self, target: Tensor, retrieved: Sequence) -> tuple[Tensor, Tensor, Tensor]:
        gap = self.gap(retrieved.cross[..., 0])  # [U, G, K, side]
        item, side, weight = self.attention(target, retrieved.item, gap, retrieved.mask)
        heads = [item.flatten(3), side.flatten(3)]  # [U, G, S, H * D], [.., H * side]
        return torch.cat(heads, dim=-1), item.mean(dim=3), weight.mean(dim=3)
