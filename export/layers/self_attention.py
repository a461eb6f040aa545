"""Multi-head self-attention among behaviours, scaled by sqrt(D) and not by a head's own width.

DSIN (eq. 4) and DMIN (the authors' code) both divide by sqrt(d_model); heads come out side by side,
what becomes of them differs.
"""

import math

import torch
from torch import Tensor, nn

from export.layers.masking import masked_softmax


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V in H heads. No bias in the projections, as in the papers."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * heads * head_dim, bias=False)  # Q, K and V of all heads

    def forward(self, item: Tensor, allowed: Tensor) -> Tensor:
        """float32 [..., H, K, d_k] of item float32 [..., K, D].

        `allowed`: bool [..., K, K] or [..., 1, K], query i may look at key j; a query that may look at none gets zeros.
        """
        parts = self.project(item).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2)  # [..., H, 3, K, d_k]
        query, key, value = parts.unbind(-3)
        logits = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(item.shape[-1])
        return torch.matmul(masked_softmax(logits, allowed.unsqueeze(-3)), value)
