"""Multi-head target attention with its projections folded: behaviours are never projected.

    q W_q (x W_k)^T = (q W_q W_k^T) x^T          softmax(a) (x W_v) = (softmax(a) x) W_v

so all that is done per candidate and behaviour is two dot products with the behaviour's own vector.
W_k starts equal to W_q: before any training a head already prefers behaviours that resemble the
target.
"""

import math

import torch
from torch import Tensor, nn

from export.layers.masking import masked_softmax

GAIN = 2.0  # with item vectors of this scale a head tells a near behaviour from a far one at the first step


class TargetAttention(nn.Module):
    """Attention of targets over behaviours [item | side]; values are what the caller makes of the pooled vectors."""

    def __init__(self, item_dim: int, side_dim: int, heads: int, head_dim: int) -> None:
        """`side_dim`: width of the side vector that takes part in the keys, 0 = none does."""
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.query = nn.Parameter(torch.randn(heads, item_dim, head_dim) * GAIN / math.sqrt(item_dim))
        side = torch.randn(heads, side_dim, head_dim) * GAIN / math.sqrt(item_dim)
        self.key = nn.Parameter(torch.cat([self.query.detach().clone(), side], dim=1))

    def forward(
        self, target: Tensor, item: Tensor, side: Tensor, mask: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            target: float32 [U, G, S, D]; item: float32 [U, G, K, D]; side: float32 [U, G, K, E].
            mask: bool [U, G, K]; bias: float32 [U, G, H, K], added to the logits.

        Returns:
            pooled items [U, G, S, H, D], pooled sides [U, G, S, H, E], weights [U, G, S, H, K].
        """
        users, groups, places, item_dim = target.shape
        query = torch.matmul(target.reshape(-1, item_dim), self.query / math.sqrt(self.head_dim))  # [H, n, d], n = U G S
        folded = torch.matmul(query, self.key.transpose(1, 2)).transpose(0, 1)  # [n, H, D (+ E)]
        folded = folded.reshape(users, groups, places * self.heads, self.key.shape[1])
        logits = torch.matmul(folded[..., :item_dim], item.transpose(2, 3))  # [U, G, S * H, K]
        if folded.shape[-1] > item_dim:
            logits = logits + torch.matmul(folded[..., item_dim:], side.transpose(2, 3))
        shape = (users, groups, places, self.heads, -1)
        logits = logits.reshape(shape)
        if bias is not None:
            logits = logits + bias.unsqueeze(2)
        weight = masked_softmax(logits, mask[:, :, None, None])
        flat = weight.flatten(2, 3)
        return torch.matmul(flat, item).reshape(shape), torch.matmul(flat, side).reshape(shape), weight


class HeadOutput(nn.Module):
    """W_v of each head and W_o over all: from pooled vectors [..., H, E] to one vector [..., D]."""

    def __init__(self, heads: int, pooled_dim: int, head_dim: int, out_dim: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(heads, pooled_dim, head_dim) / math.sqrt(pooled_dim))
        self.out = nn.Linear(heads * head_dim, out_dim, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        heads, pooled_dim, _ = self.value.shape
        flat = pooled.reshape(-1, heads, pooled_dim)  # [n, H, E]
        values = torch.matmul(flat.transpose(0, 1), self.value).transpose(0, 1)  # [n, H, d]
        out: Tensor = self.out(values.reshape(*pooled.shape[:-2], self.out.in_features))
        return out
