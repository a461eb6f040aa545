"""DMIN: Deep Multi-Interest Network (Xiao et al., CIKM 2020). One interest sequence per attention head.

Refiner: causal multi-head self-attention, residual, layer norm, then an FFN d-2d-d with residual: Z.
An auxiliary loss as DIEN's teaches Z_t to foresee e_t+1 (training only).
Extractor: a second causal self-attention whose heads stay apart. Each is projected back to d, with
residual and layer norm, and passes its own FFN d-2d-d with residual: I_h.
Interest h of a target: sum_j softmax_j a_h(I_jh, x, p_j) I_jh; the H interests side by side.
a_h: MLP 80-40-1 with sigmoid on [q, k, q - k, q * k], where q = W [x ; p_j], p_j of width 2.

Sizes, K = 20, the scale sqrt(d) and the causal mask of both attentions (without it Z_t has seen what it
shall foresee) are the authors' code's. Z and all I_h are made once a request, whatever the number of
candidates.
Differences: the auxiliary loss takes the inner product of DIEN's paper (the code: an MLP), divided by
sqrt(d), for layer norm makes Z long. Padding is masked as a key and in the auxiliary loss (the code
averages over padding too). Positions are counted from the newest behaviour, so that a longer history
does not rename them (the code: from the first place). The code also feeds the sum of all behaviours
to the head; here, as in every model, it is the behaviours as the target weighs them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from export.layers.masking import masked_softmax
from export.layers.next_behaviour import next_behaviour_loss
from export.layers.self_attention import SelfAttention
from export.models.around_kernel import PairModel, PairOperands
from export.models.contract import DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register


@dataclass(frozen=True)
class DMINConfig(ModelConfig):
    """DMIN reads one short sequence; it has no second branch."""

    k: int = 20
    recent: int = 0
    position_dim: int = 2
    hidden: tuple[int, int] = (80, 40)  # of the attention unit
    auxiliary_weight: float = 1.0


class HeadLinear(nn.Module):
    """A linear layer of its own for each head: float32 [H, n, out] from [H, n, in]."""

    def __init__(self, heads: int, in_dim: int, out_dim: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_dim)
        self.weight = nn.Parameter(torch.empty(heads, in_dim, out_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(heads, 1, out_dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class Refiner(nn.Module):
    """Z float32 [U, K, D] of items float32 [U, K, D]; allowed bool [U, K, K]."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads, head_dim)
        self.out, self.norm = nn.Linear(heads * head_dim, dim), nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, item: Tensor, allowed: Tensor) -> Tensor:
        heads = self.attention(item, allowed).transpose(-2, -3).flatten(-2)  # [U, K, H * d_k]
        x = self.norm(item + self.out(heads))
        refined: Tensor = x + self.feed_forward(x)
        return refined


class Extractor(nn.Module):
    """I float32 [H, U, K, D] of Z float32 [U, K, D]; allowed bool [U, K, K]."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = SelfAttention(dim, heads, head_dim)
        self.out = HeadLinear(heads, head_dim, dim)
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(heads, 1, dim)), nn.Parameter(torch.zeros(heads, 1, dim))
        self.first, self.second = HeadLinear(heads, dim, 2 * dim), HeadLinear(heads, 2 * dim, dim)

    def forward(self, refined: Tensor, allowed: Tensor) -> Tensor:
        heads = self.attention(refined, allowed).transpose(0, 1).flatten(1, 2)  # [H, U * K, d_k]
        x = layer_norm(refined.flatten(0, 1) + self.out(heads), refined.shape[-1:]) * self.norm_weight + self.norm_bias
        interest: Tensor = x + self.second(torch.relu(self.first(x)))
        return interest.reshape(-1, *refined.shape)


class PositionedUnit(nn.Module):
    """a_h(k, x, p) of every head, its first layer folded as in DIN: only x * k is computed per pair.

    With q = A x + B p the layer's sum is  W_q A x  +  (W_q B p + W_k k + W_p (B p * k))  +  W_p (A x * k):
    what depends on the target, on the behaviour, and on both.
    """

    def __init__(self, dim: int, position_dim: int, heads: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        first, second = hidden
        self.query, self.query_position = HeadLinear(heads, dim, dim), HeadLinear(heads, position_dim, dim, bias=False)
        self.from_query = HeadLinear(heads, dim, first)
        self.from_behaviour = HeadLinear(heads, dim, first, bias=False)
        self.from_product = HeadLinear(heads, dim, first, bias=False)
        self.second, self.out = HeadLinear(heads, first, second), HeadLinear(heads, second, 1, bias=False)

    def forward(self, target: Tensor, position: Tensor, interest: Tensor) -> Tensor:
        """Logits float32 [H, U, S, K] of target [U, S, D], position [U, K, E], interest [H, U, K, D]."""
        heads, users, length, _ = interest.shape
        places = target.shape[1]
        target, of_behaviour = self._asked(target, interest), self._of_behaviour(position, interest)
        if self.training:
            product = target.unsqueeze(3) * interest.unsqueeze(2)  # [H, U, S, K, D]
            of_both = self.from_product(product.flatten(1, 3)).reshape(heads, users, places, length, -1)
            of_target = torch.matmul(target, self.from_query.weight.unsqueeze(1)).unsqueeze(3)
            hidden = (of_both + of_target + of_behaviour.unsqueeze(2)).transpose(2, 3)  # [H, U, K, S, first]
        else:  # the same by a matrix of each behaviour, as in DIN
            of_target, of_product = self.from_query.weight[:, None, None], self.from_product.weight[:, None, None]
            matrix = interest.unsqueeze(-1) * of_product + of_target  # [H, U, K, D, first]
            matrix = torch.cat([matrix, of_behaviour.unsqueeze(-2)], dim=-2)
            with_one = torch.cat([target, torch.ones_like(target[..., :1])], dim=-1).unsqueeze(2)  # [H, U, 1, S, D + 1]
            hidden = torch.matmul(with_one, matrix)
        logits: Tensor = self.out(torch.sigmoid(self.second(torch.sigmoid(hidden).flatten(1, 3))))
        return logits.reshape(heads, users, length, places).transpose(2, 3)

    def operands(self, target: Tensor, position: Tensor, interest: Tensor) -> PairOperands:
        """The same as what `store.pair_unit` computes it from; U = 1."""
        offset = self._of_behaviour(position, interest).squeeze(1)
        summands = self.second.bias.squeeze(1)  # type: ignore[union-attr]
        return PairOperands(
            target=self._asked(target, interest).squeeze(1),
            behaviour=interest.squeeze(1),
            offset=offset,
            of_target=self.from_query.weight,
            of_product=self.from_product.weight,
            first_gate=sigmoid_gate(torch.zeros_like(offset[:, 0])),
            second=self.second.weight,
            second_gate=sigmoid_gate(summands),
            out=self.out.weight.squeeze(-1),
            bias=torch.zeros_like(self.out.weight[:, 0]),
        )

    def _asked(self, target: Tensor, interest: Tensor) -> Tensor:
        """A x: float32 [H, U, S, D] of target [U, S, D]."""
        heads, users, _, dim = interest.shape
        asked: Tensor = self.query(target.flatten(0, 1).expand(heads, -1, -1))
        return asked.reshape(heads, users, target.shape[1], dim)

    def _of_behaviour(self, position: Tensor, interest: Tensor) -> Tensor:
        """What depends on the behaviour alone, with the layer's bias: float32 [H, U, K, first]."""
        heads, users, length, _ = interest.shape
        flat = interest.flatten(1, 2)  # [H, U * K, D]
        position = self.query_position(position.flatten(0, 1).expand(heads, -1, -1))  # [H, U * K, D]
        of_behaviour: Tensor = self.from_query(position) + self.from_behaviour(flat) + self.from_product(position * flat)
        return of_behaviour.reshape(heads, users, length, -1)


def sigmoid_gate(bias: Tensor) -> Tensor:
    """sigmoid(s + bias) as a gate of `store.pair_unit`: float32 [H, 4, n] of biases [H, n]."""
    zeros = torch.zeros_like(bias)
    return torch.stack([zeros, zeros + 1, bias, zeros], dim=1)


@register("dmin")
class DMIN(PairModel):
    """Deep Multi-Interest Network."""

    config_type = DMINConfig
    config: DMINConfig
    search_name = "newest"
    fixed_k = True
    reads = ("retrieved_row", "retrieved_mask")
    training_reads = ("negative_row",)

    def __init__(self, shape: DataShape, config: DMINConfig) -> None:
        super().__init__(shape, config, interest_dim=config.heads * config.dim)
        self.refiner = Refiner(config.dim, config.heads, config.head_dim)
        self.extractor = Extractor(config.dim, config.heads, config.head_dim)
        self.position = nn.Embedding(config.k, config.position_dim)
        self.unit = PositionedUnit(config.dim, config.position_dim, config.heads, config.hidden)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        refined, interest, position = self._extracted(user)
        found = self.found(self.unit(target[:, 0], position, interest), interest, user)
        return found._replace(auxiliary_loss=self._foresight(refined, user))

    def operands(self, target: Tensor, user: Sequence) -> PairOperands:
        _, interest, position = self._extracted(user)
        return self.unit.operands(target[:, 0], position, interest).widened()

    def found(self, relevance: Tensor, behaviour: Tensor, user: Sequence) -> Interest:
        weight = masked_softmax(relevance, user.mask)  # [H, U, S, K]
        pooled = torch.matmul(weight, behaviour).permute(1, 2, 0, 3).flatten(2).unsqueeze(1)  # [U, 1, S, H * D]
        mean = weight.mean(dim=0).unsqueeze(1)  # [U, 1, S, K]
        return Interest(pooled, torch.matmul(mean, user.item), mean)

    def _extracted(self, user: Sequence) -> tuple[Tensor, Tensor, Tensor]:
        """Z [U, K, D], the interests [H, U, K, D] and the positions' vectors [U, K, E]."""
        item, mask = user.item[:, 0], user.mask[:, 0]  # [U, K, D], [U, K]
        places = torch.arange(self.config.k, device=mask.device)
        allowed = mask.unsqueeze(1) & (places <= places.unsqueeze(1))  # [U, K, K], no look ahead
        refined = self.refiner(item, allowed)
        age = (mask.sum(dim=1, keepdim=True) - 1 - places).clamp(min=0)  # [U, K], 0 = the newest
        return refined, self.extractor(refined, allowed), self.position(age)

    def _foresight(self, refined: Tensor, user: Sequence) -> Tensor | None:
        if not (self.training and "negative_row" in user.inputs):
            return None
        scaled = refined.unsqueeze(1) / math.sqrt(self.config.dim)
        loss = next_behaviour_loss(scaled, user.look_up("retrieved_row"), user.look_up("negative_row"), user.mask)
        return self.config.auxiliary_weight * loss
