"""DIN: Deep Interest Network (Zhou et al., KDD 2018). Attends to the newest behaviours, no search.

v_U(A) = sum_j a(e_j, v_A) e_j, without softmax: the sum keeps the intensity of interest (eq. 3).
Differences: the paper feeds a() with both vectors and their outer product; like the authors' later
code it gets [q, k, q - k, q * k]. The mini-batch-aware L2 (5.1) counts an id's behaviours in the training
time, not its repeats over samples. The head sees target x interest beside the two, as every model here.

The first layer of a() is folded: W [q; k; q-k; q*k] = (W_q + W_d) q + (W_k - W_d) k + W_p (q * k), so
that only the product is computed per pair. For scoring more is: W_p (q * k) = (W_p diag(k)) q, a matrix of the
behaviour, into which all that comes before the activation goes; and what Dice scales goes into the layer after it. On a processor
a kernel does that (`store/pair_unit.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.layers.dice import Dice
from export.models.around_kernel import PairModel, PairOperands
from export.models.contract import DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register


@dataclass(frozen=True)
class DINConfig(ModelConfig):
    """DIN reads one short sequence; it has no second branch."""

    k: int = 50  # newest behaviours
    recent: int = 0
    item_l2: float = 0.01  # 6.5
    hidden: tuple[int, int] = (80, 40)  # of the attention unit


class AttentionUnit(nn.Module):
    """a(k, q): MLP 80-40-1 with Dice, one un-normalised weight per pair."""

    def __init__(self, dim: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        first, second = hidden
        self.from_target = nn.Linear(dim, first)
        self.from_behaviour = nn.Linear(dim, first, bias=False)
        self.from_product = nn.Linear(dim, first, bias=False)
        self.first_dice, self.second_dice = Dice(first), Dice(second)
        self.second, self.out = nn.Linear(first, second), nn.Linear(second, 1)

    def forward(self, target: Tensor, item: Tensor, mask: Tensor) -> Tensor:
        """Relevance [U, G, S, K] of item [U, G, K, D] to target [U, G, S, D]; mask [U, G, K] is for Dice's statistics."""
        return self._trained(target, item, mask) if self.training else self._folded(target, item)

    def _trained(self, target: Tensor, item: Tensor, mask: Tensor) -> Tensor:
        product = target.unsqueeze(3) * item.unsqueeze(2)  # [U, G, S, K, D]
        hidden = self.from_target(target).unsqueeze(3) + self.from_behaviour(item).unsqueeze(2) + self.from_product(product)
        placed = (target != 0).any(dim=-1)  # [U, G, S], False at padding places, whose vector is zero
        real = mask.unsqueeze(2) & placed.unsqueeze(3)  # [U, G, S, K]
        hidden = self.first_dice(hidden, real)
        hidden = self.second_dice(self.second(hidden), real)
        weight: Tensor = self.out(hidden).squeeze(-1)
        return weight

    def _folded(self, target: Tensor, item: Tensor) -> Tensor:
        """The same in half the time where there are more candidates than behaviours; Dice's statistics are fixed."""
        first, second = self.first_dice.folded(), self.second_dice.folded()
        of_target, of_product = (layer.weight.T * first.rate for layer in (self.from_target, self.from_product))  # [D, 80]
        matrix = item.unsqueeze(-1) * of_product + of_target  # [U, G, K, D, 80]
        offset = (self.from_behaviour(item) + self.from_target.bias) * first.rate  # [U, G, K, 80]
        with_one = torch.cat([target, torch.ones_like(target[..., :1])], dim=-1).unsqueeze(2)  # [U, G, 1, S, D + 1]
        hidden = first(torch.matmul(with_one, torch.cat([matrix, offset.unsqueeze(-2)], dim=-2)))  # [U, G, K, S, 80]
        hidden = second(torch.matmul(hidden, first.gain.unsqueeze(1) * self.second.weight.T * second.rate), self.second.bias)
        weight = torch.matmul(hidden, second.gain.unsqueeze(1) * self.out.weight.T).squeeze(-1) + self.out.bias
        return weight.transpose(2, 3)

    def operands(self, target: Tensor, item: Tensor) -> PairOperands:
        """The same as what `store.pair_unit` computes it from; U = G = 1."""
        first, second = self.first_dice.folded(), self.second_dice.folded()
        return PairOperands(
            target=target.squeeze(1),
            behaviour=item.squeeze(1),
            offset=((self.from_behaviour(item) + self.from_target.bias) * first.rate).squeeze(1),
            of_target=(self.from_target.weight.T * first.rate).unsqueeze(0),
            of_product=(self.from_product.weight.T * first.rate).unsqueeze(0),
            first_gate=first.gate().unsqueeze(0),
            second=(first.gain.unsqueeze(1) * self.second.weight.T * second.rate).unsqueeze(0),
            second_gate=second.gate(self.second.bias).unsqueeze(0),
            out=(second.gain * self.out.weight[0]).unsqueeze(0),
            bias=self.out.bias.unsqueeze(0),
        )


@register("din")
class DIN(PairModel):
    """Deep Interest Network."""

    config_type = DINConfig
    search_name = "newest"
    reads = ("retrieved_row", "retrieved_mask")

    def __init__(self, shape: DataShape, config: DINConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)
        self.unit = AttentionUnit(config.dim, config.hidden)

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        return self.found(self.unit(target, user.item, user.mask), user.item, user)

    def operands(self, target: Tensor, user: Sequence) -> PairOperands:
        return self.unit.operands(target, user.item).widened()

    def found(self, relevance: Tensor, behaviour: Tensor, user: Sequence) -> Interest:
        weight = relevance * user.mask.unsqueeze(2)  # [U, G, S, K]
        pooled = torch.matmul(weight, behaviour)  # [U, G, S, D]
        return Interest(pooled, pooled, weight)
