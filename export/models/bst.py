"""BST: Behavior Sequence Transformer (Chen et al., DLP-KDD 2019). Self-attention over the newest behaviours and the target.

An element is [item vector | embedding of its time gap t(target) - t(v_i)]; the target stands last, its gap is 0.
One block, the paper's best depth: S' = LN(S + Dropout(MH(S))), F = LN(S' + Dropout(LeakyReLU(S' W1 + b1) W2 + b2))
(eq. 5-6), read out at the target (section 2.3; its figure joins all rows).

Only the target's row is computed. With one block that is the whole block read at the target: the row's query meets
the keys and values of the block's inputs, never another row's output, and LN and the feed-forward layer work row by
row. So behaviours' keys and values are projected once a user, and a candidate costs K, not K^2. On a processor the
attention is a kernel (`store/target_row.py`).
Differences: the newest 50 (paper: 20), gaps in half octaves (the paper's buckets are unpublished), the shared head
200-80-1 (paper: 1024-512-256), Adam (paper: Adagrad). W_k starts equal to W_q, as in every attention here. The head
also sees the target times the attended behaviours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from export.layers.attention import GAIN
from export.layers.embedding import INITIAL_STD
from export.layers.masking import LOWEST, masked_softmax
from export.models.around_kernel import KernelModel
from export.models.contract import DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register
from store.between import ROW

GAP_OF_TARGET = 1  # bucket of a gap of 0 seconds


@dataclass(frozen=True)
class BSTConfig(ModelConfig):
    """BST reads one short sequence; it has no second branch."""

    k: int = 50  # newest behaviours
    recent: int = 0
    heads: int = 8
    head_dim: int = 9  # (64 + 8) / 8
    feed_forward: int = 144
    dropout: float = 0.2


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    out: Tensor = norm(x)
    return out


def normed_in_steps(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """`norm` of x in steps that onnxruntime does not join: on a processor its own takes three times as long."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(variance + norm.eps) * norm.weight + norm.bias


class TargetRow(nn.Module):
    """The target's row of one transformer block over [behaviours; target]."""

    def __init__(self, width: int, heads: int, head_dim: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_dim, bias=False)
        self.key = nn.Linear(width, heads * head_dim, bias=False)
        self.value = nn.Linear(width, heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, width, bias=False)
        self.feed_forward = nn.Sequential(nn.Linear(width, feed_forward), nn.LeakyReLU(), nn.Linear(feed_forward, width))
        self.attention_norm, self.output_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.query.weight, std=GAIN / math.sqrt(width))
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)

    def forward(self, target: Tensor, behaviours: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            target: float32 [U, S, E]; behaviours: float32 [U, K, E], in any order; mask: bool [U, K].

        Returns:
            float32 [U, S, E], of the target alone where all is masked; the attention on behaviours, float32
            [U, S, K], mean over heads. The target attends to itself too: a row sums to less than one.

        Cost: U * (K + S) * E * H * d for the projections, U * S * K * H * d for the attention.
        """
        query, own_key, own_value = (self._in_heads(part(target)) for part in (self.query, self.key, self.value))  # [U, H, S, d]
        key, value = self._in_heads(self.key(behaviours)), self._in_heads(self.value(behaviours))  # [U, H, K, d]
        to_itself = (query * own_key).sum(dim=-1, keepdim=True)
        logits = torch.cat([torch.matmul(query, key.transpose(2, 3)), to_itself], dim=-1)  # [U, H, S, K + 1]
        real = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=-1)
        weight = masked_softmax(logits / math.sqrt(query.shape[-1]), real[:, None, None])
        pooled = torch.matmul(weight[..., :-1], value) + weight[..., -1:] * own_value  # [U, H, S, d]
        row = self.read_out(target.flatten(0, 1), pooled.transpose(1, 2).flatten(2).flatten(0, 1))
        return row.view(target.shape), weight[..., :-1].mean(dim=1)

    def read_out(self, target: Tensor, pooled: Tensor, normed: Callable[[nn.LayerNorm, Tensor], Tensor] = _normed) -> Tensor:
        """All behind the attention: float32 [n, E] of targets [n, E] and what their heads pooled, [n, H * d]. Two axes, as a
        Gemm has them: what is added to a product is part of it."""
        attended = normed(self.attention_norm, target + self.dropout(self.out(pooled)))
        return normed(self.output_norm, attended + self.dropout(self.feed_forward(attended)))

    def operands(self, target: Tensor, behaviours: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Those of `store.target_row`, as `forward` takes them; U = 1."""
        scaled = self.query.weight / math.sqrt(self.query.out_features / self.heads)
        of_all = torch.cat([scaled, self.key.weight, self.value.weight])  # [3 * H * d, E]: one product has them all
        of_target = torch.unflatten(torch.matmul(of_all, target[0].T), 0, (3, self.heads, -1))  # [3, H, d, S]
        of_behaviours = (self._in_heads(part(behaviours)).squeeze(0).transpose(0, 1) for part in (self.key, self.value))
        return of_target, *of_behaviours, (~mask[0]) * LOWEST

    def _in_heads(self, projected: Tensor) -> Tensor:
        """[U, *, H * d] -> [U, H, *, d]."""
        users, rows, _ = projected.shape
        return projected.reshape(users, rows, self.heads, -1).transpose(1, 2)


@register("bst")
class BST(KernelModel):
    """Behavior Sequence Transformer."""

    config_type = BSTConfig
    search_name = "newest"
    between = ROW
    answer_axes: ClassVar = {"pooled": ("H", "E", "S"), "share": ("K", "S")}

    def __init__(self, shape: DataShape, config: BSTConfig) -> None:
        width = config.dim + config.side_dim
        super().__init__(shape, config, interest_dim=width)
        self.gap = nn.Embedding(shape.cross_features[0], config.side_dim)
        nn.init.normal_(self.gap.weight, std=INITIAL_STD)
        self.block = TargetRow(width, config.heads, config.head_dim, config.feed_forward, config.dropout)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        row, weight = self.block(*self._elements(target, user))
        return self._found(row, weight, user)

    def operands(self, target: Tensor, user: Sequence) -> tuple[Tensor, ...]:
        return self.block.operands(*self._elements(target, user))

    def answered(self, target: Tensor, user: Sequence, *answers: Tensor) -> Interest:
        pooled, share = answers
        element, _, mask = self._elements(target, user)
        row = self.block.read_out(element[0], pooled.flatten(0, 1).T, normed_in_steps)
        return self._found(row.unsqueeze(0), share.T.unsqueeze(0) * mask.unsqueeze(1), user)

    def _elements(self, target: Tensor, user: Sequence) -> tuple[Tensor, Tensor, Tensor]:
        """Elements of targets [U, S, E] and of behaviours [U, K, E], and which are real, [U, K]; G = 1."""
        behaviours = torch.cat([user.item, self.gap(user.gap)], dim=-1).squeeze(1)
        users, _, places, _ = target.shape
        gap = self.gap.weight[GAP_OF_TARGET].expand(users, places, -1)
        return torch.cat([target.squeeze(1), gap], dim=-1), behaviours, user.mask.squeeze(1)

    def _found(self, row: Tensor, weight: Tensor, user: Sequence) -> Interest:
        """From the target's row [U, S, E] and its weights [U, S, K]."""
        pooled = torch.matmul(weight, user.item.squeeze(1))  # [U, S, D]
        return Interest(row.unsqueeze(1), pooled.unsqueeze(1), weight.unsqueeze(1))
