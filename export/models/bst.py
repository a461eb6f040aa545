"""BST: Behavior Sequence Transformer (Chen et al., DLP-KDD 2019). Self-attention over the newest behaviours and the target.

An element is [item vector | embedding of its time gap t(target) - t(v_i)]; the target stands last, its gap is 0.
One block, the paper's best depth: S' = LN(S + Dropout(MH(S))), F = LN(S' + Dropout(LeakyReLU(S' W1 + b1) W2 + b2))
(eq. 5-6), read out at the target (section 2.3; its figure joins all rows).

Only the target's row is computed. With one block that is the whole block read at the target: the row's query meets
the keys and values of the block's inputs, never another row's output, and LN and the feed-forward layer work row by
row. So behaviours' keys and values are projected once a user, and a candidate costs K, not K^2.
Differences: the newest 50 (paper: 20), gaps in half octaves (the paper's buckets are unpublished), the shared head
200-80-1 (paper: 1024-512-256), Adam (paper: Adagrad). W_k starts equal to W_q, as in every attention here. The head
also sees the target times the attended behaviours.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.layers.attention import GAIN
from export.layers.embedding import INITIAL_STD
from export.layers.masking import masked_softmax
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register

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
        attended = self.attention_norm(target + self.dropout(self.out(pooled.transpose(1, 2).flatten(2))))
        out: Tensor = self.output_norm(attended + self.dropout(self.feed_forward(attended)))
        return out, weight[..., :-1].mean(dim=1)

    def _in_heads(self, projected: Tensor) -> Tensor:
        """[U, *, H * d] -> [U, H, *, d]."""
        users, rows, _ = projected.shape
        return projected.reshape(users, rows, self.heads, -1).transpose(1, 2)


@register("bst")
class BST(CTRModel):
    """Behavior Sequence Transformer."""

    config_type = BSTConfig
    search_name = "newest"

    def __init__(self, shape: DataShape, config: BSTConfig) -> None:
        width = config.dim + config.side_dim
        super().__init__(shape, config, interest_dim=width)
        self.gap = nn.Embedding(shape.cross_features[0], config.side_dim)
        nn.init.normal_(self.gap.weight, std=INITIAL_STD)
        self.block = TargetRow(width, config.heads, config.head_dim, config.feed_forward, config.dropout)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        item, mask = user.item.squeeze(1), user.mask.squeeze(1)  # G = 1: [U, K, D], [U, K]
        behaviours = torch.cat([item, self.gap(user.gap.squeeze(1))], dim=-1)  # [U, K, E]
        users, _, places, _ = target.shape
        gap = self.gap.weight[GAP_OF_TARGET].expand(users, places, -1)
        row, weight = self.block(torch.cat([target.squeeze(1), gap], dim=-1), behaviours, mask)
        pooled = torch.matmul(weight, item)  # [U, S, D]
        return Interest(row.unsqueeze(1), pooled.unsqueeze(1), weight.unsqueeze(1))
