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

    def queries(self, target: Tensor) -> Tensor:
        """What each head asks of a behaviour's own vector: float32 [U, G, S, H, D + E] from [U, G, S, D]."""
        flat = target.reshape(-1, target.shape[-1])  # [n, D], n = U G S
        query = torch.matmul(flat, self.query / math.sqrt(self.head_dim))  # [H, n, d]
        folded = torch.matmul(query, self.key.transpose(1, 2)).transpose(0, 1)  # [n, H, D + E]
        return folded.reshape(*target.shape[:3], *folded.shape[1:])

    def forward(self, target: Tensor, behaviour: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`attend` of targets [U, G, S, D] to behaviours [U, G, K, D + E]."""
        return attend(self.queries(target), behaviour, mask)


def attend(query: Tensor, behaviour: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention where behaviours are keys and values in one; `store.attention` does the same in lists.

    Args:
        query: float32 [U, G, S, H, W]; behaviour: float32 [U, G, K, W]; mask: bool [U, G, K].

    Returns:
        pooled behaviours [U, G, S, H, W], weights [U, G, S, H, K].
    """
    shape = (*query.shape[:4], -1)
    logits = torch.matmul(query.flatten(2, 3), behaviour.transpose(2, 3)).reshape(shape)
    weight = masked_softmax(logits, mask[:, :, None, None])
    return torch.matmul(weight.flatten(2, 3), behaviour).reshape(shape), weight


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
