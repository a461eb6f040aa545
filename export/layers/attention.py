"""Multi-head target attention with its projections folded: behaviours are never projected.

    q W_q (x W_k)^T = (q W_q W_k^T) x^T          softmax(a) (x W_v) = (softmax(a) x) W_v

so all that is done per candidate and behaviour is two dot products with the behaviour's own vector.
Where all candidates attend to the same few behaviours, these take the projections instead (`attend_to_few`):

    q (W_q W_k^T x^T)                            softmax(a) (x W_v W_o)

W_k starts equal to W_q: before any training a head already prefers behaviours that resemble the
target.
"""

import math

import torch
from torch import Tensor, nn

from export.layers.grouped import product_plus
from export.layers.masking import LOWEST, masked_softmax, without_falls

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
        """What each head asks of a behaviour's own vector: float32 [U, G, H, S, D + E] from [U, G, S, D]."""
        query = torch.matmul(target.unsqueeze(2), self.query / math.sqrt(self.head_dim))  # [U, G, H, S, d]
        return torch.matmul(query, self.key.transpose(1, 2))

    def forward(self, target: Tensor, behaviour: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`attend` of targets [U, G, S, D] to behaviours [U, G, K, D + E]."""
        return attend(self.queries(target), behaviour, mask)


def attend(query: Tensor, behaviour: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention where behaviours are keys and values in one; `store.attention` does the same in lists.

    Args:
        query: float32 [U, G, H, S, W]; behaviour: float32 [U, G, K, W]; mask: bool [U, G, K].

    Returns:
        pooled behaviours [U, G, H, S, W], weights [U, G, H, S, K].
    """
    shape = (*query.shape[:4], -1)
    logits = torch.matmul(query.flatten(2, 3), behaviour.transpose(2, 3)).reshape(shape)
    weight = masked_softmax(logits, mask[:, :, None, None])
    return torch.matmul(weight.flatten(2, 3), behaviour).reshape(shape), weight


def attend_to_few(attention: TargetAttention, target: Tensor, behaviour: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """What the heads of `attention` make of values in place of the behaviours, summed: for fewer behaviours than targets.

    Args:
        target: float32 [U, G, S, D]; behaviour: float32 [U, G, K, D + E]; mask: bool [U, G, K].
        value: float32 [U, G, H, K, V], of each behaviour for each head.

    Returns: float32 [U, G, S, V], zeros where nothing is real. Two products and a softmax are all that grows with S.
    """
    heads, count = attention.heads, behaviour.shape[2]
    key = torch.matmul(behaviour.unsqueeze(2), attention.key)  # [U, G, H, K, d]
    asked = torch.matmul(attention.query / math.sqrt(attention.head_dim), key.transpose(3, 4))  # [U, G, H, D, K]
    asked = asked.transpose(2, 3).flatten(3)  # [U, G, D, H * K]
    padding = torch.where(mask, 0.0, LOWEST)[:, :, None].repeat(1, 1, 1, heads)  # [U, G, 1, H * K]
    logits = torch.unflatten(product_plus(padding, target, asked), -1, (heads, count))  # [U, G, S, H, K]
    weight = torch.softmax(without_falls(logits), dim=-1)
    real = value * mask[:, :, None, :, None]  # in place of the weights, which stand once per target
    return torch.matmul(weight.flatten(3), real.flatten(2, 3))


class HeadOutput(nn.Module):
    """W_v of each head and W_o over all: from what the heads pooled to one vector [..., out_dim]."""

    def __init__(self, heads: int, pooled_dim: int, head_dim: int, out_dim: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(heads, pooled_dim, head_dim) / math.sqrt(pooled_dim))
        self.out = nn.Linear(heads * head_dim, out_dim, bias=False)

    def of_each(self, behaviour: Tensor) -> Tensor:
        """Vectors of behaviours before they are pooled: float32 [U, G, H, K, D] of [U, G, K, E]."""
        return torch.matmul(torch.matmul(behaviour.unsqueeze(2), self.value), self._out_of_each())

    def values(self, width: int) -> Tensor:
        """W_v of each head for vectors of that width: float32 [H, width, d]. What behaviours have beyond W_v is no value."""
        return nn.functional.pad(self.value, (0, 0, 0, width - self.value.shape[1]))

    def forward(self, pooled: Tensor) -> Tensor:
        """float32 [U, G, S, D] of what the heads pooled [U, G, H, S, W]."""
        valued = torch.matmul(pooled, self.values(pooled.shape[-1]))  # [U, G, H, S, d]
        return self.of_valued(valued.transpose(2, 3).flatten(3))

    def of_valued(self, valued: Tensor) -> Tensor:
        """The same of [U, G, S, H * d], times W_v already."""
        out: Tensor = self.out(valued)
        return out

    def _out_of_each(self) -> Tensor:
        """W_o in parts: float32 [H, d, out]."""
        heads, _, width = self.value.shape
        return torch.unflatten(self.out.weight.T, 0, (heads, width))


class SideBySide(nn.Module):
    """In place of a `HeadOutput` where there is no W_v: what the heads pooled as one vector, their items, then their sides."""

    def __init__(self, item_dim: int) -> None:
        super().__init__()
        self.item_dim = item_dim

    def values(self, width: int) -> None:
        """None: a behaviour's vector is its value."""

    def forward(self, pooled: Tensor) -> Tensor:
        """float32 [U, G, S, H * D + H * E] of what the heads pooled [U, G, H, S, D + E]."""
        item, side = torch.split(pooled.transpose(2, 3), [self.item_dim, pooled.shape[-1] - self.item_dim], dim=-1)
        return torch.cat([item.flatten(3), side.flatten(3)], dim=-1)

    def of_valued(self, valued: Tensor) -> Tensor:
        """What stands side by side already."""
        return valued
