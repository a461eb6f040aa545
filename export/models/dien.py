"""DIEN: Deep Interest Evolution Network (Zhou et al., AAAI 2019). Reads the newest behaviours in order, no search.

Interest extractor: a GRU over the behaviours e_t gives states h_t (eq. 2-5). In training only, h_t must tell
e_t+1 from a negative (eq. 6); L = L_target + alpha L_aux (eq. 7).
Interest evolution: a_t = softmax_t(h_t W e_a) (eq. 8) enters a second GRU over h_t, run for each candidate:

    AUGRU  u' = a_t u, h' = (1 - u') h' + u' h~    (eq. 11-12: a_t = 1 is a GRU, a_t = 0 keeps h')
    AIGRU  a GRU whose input is a_t h_t            (eq. 9)
    AGRU   a_t in the place of u                   (eq. 10)

Where the authors' code differs, this follows the paper: their AUGRU scales 1 - u by 1 - a_t, so that a_t = 0
does not keep h'; their auxiliary loss and attention are MLPs, here an inner product (so h_t is as wide as an item
vector) and eq. 8. Differences from both: the auxiliary loss is a mean over pairs (the paper sums over t), negatives
are drawn as candidates are; the second GRU is narrower than the first, for it alone runs once a candidate; W and the
input weights of h~ start as the identity, so that attention starts as likeness to the target; the target meets the
attended behaviours in the head, not the sum of all.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.nn.functional import linear

from export.layers.masking import masked_softmax
from export.layers.next_behaviour import next_behaviour_loss
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register

Gate = Literal["augru", "aigru", "agru"]


@dataclass(frozen=True)
class DIENConfig(ModelConfig):
    """DIEN reads one short sequence; it has no second branch."""

    k: int = 50  # newest behaviours
    recent: int = 0
    hidden: int = 36  # of the interest evolution
    gate: Gate = "augru"
    alpha: float = 1.0  # of the auxiliary loss


class AttentionalGRU(nn.Module):
    """A GRU over one user's states, run for each candidate under its own attention."""

    def __init__(self, in_dim: int, hidden: int, gate: Gate) -> None:
        super().__init__()
        self.gate, self.hidden = gate, hidden
        blocks = 2 if gate == "agru" else 3  # h~, r and, where there is one, u
        self.from_input = nn.Linear(in_dim, blocks * hidden)
        self.from_state = nn.Linear(hidden, blocks * hidden, bias=False)

    def forward(self, states: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """The last state float32 [U, S, n] of each candidate, zero for the empty user.

        Args:
            states: float32 [U, K, in_dim], oldest first; attention: float32 [U, S, K], 0 where masked.
            mask: bool [U, K]; a masked step leaves the state as it is.

        Cost: K steps, one after another, of U * S * 3 n^2 products.
        """
        seen = linear(states, self.from_input.weight)  # [U, K, 3 n], of the user: the same for all candidates
        real = mask.to(states.dtype)
        # one behaviour after another: [K, U, 1, 3 n], [K, U, S, 1], [K, U, 1, 1]
        steps = (seen.transpose(0, 1).unsqueeze(2), attention.permute(2, 0, 1).unsqueeze(3), real.t()[:, :, None, None])
        state = attention.new_zeros(*attention.shape[:2], self.hidden)
        if torch.compiler.is_exporting():  # one ONNX Scan: 50 unrolled steps are a graph of a thousand nodes
            last: Tensor = scan(lambda state, step: (self.step(state, *step), state.new_zeros(1)), state, steps)[0]
            return last
        for step in zip(*steps, strict=True):
            state = self.step(state, *step)
        return state

    def step(self, state: Tensor, seen: Tensor, attention: Tensor, real: Tensor) -> Tensor:
        """One behaviour: [U, S, n] state, [U, 1, 3 n] projected input, [U, S, 1] attention, [U, 1, 1] 1 = real."""
        n = self.hidden
        if self.gate == "aigru":
            seen = attention * seen  # W (a h) = a (W h)
        seen = seen + self.from_input.bias
        kept = self.from_state(state)
        gates = torch.sigmoid(seen[..., n:] + kept[..., n:])
        fresh = torch.tanh(seen[..., :n] + gates[..., :n] * kept[..., :n])
        if self.gate == "agru":
            update = attention
        elif self.gate == "augru":
            update = attention * gates[..., n:]
        else:
            update = real * gates[..., n:]
        return state + update * (fresh - state)


@register("dien")
class DIEN(CTRModel):
    """Deep Interest Evolution Network."""

    config_type = DIENConfig
    search_name = "newest"
    reads = ("retrieved_row", "retrieved_mask")
    training_reads = ("negative_row",)

    def __init__(self, shape: DataShape, config: DIENConfig) -> None:
        super().__init__(shape, config, interest_dim=config.hidden)
        self.alpha = config.alpha
        self.extractor = nn.GRU(config.dim, config.dim, batch_first=True)
        self.attention = nn.Linear(config.dim, config.dim, bias=False)  # W of eq. 8
        self.evolution = AttentionalGRU(config.dim, config.hidden, config.gate)
        with torch.no_grad():
            self.attention.weight.copy_(torch.eye(config.dim))
            self.extractor.get_parameter("weight_ih_l0")[2 * config.dim :] = torch.eye(config.dim)  # the block of h~

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        item, mask = user.item.squeeze(1), user.mask.squeeze(1)  # G = 1: [U, K, D], [U, K]
        states, _ = self.extractor(item)  # [U, K, D]; padding stands behind, the real ones have not seen it
        query = self.attention(target.squeeze(1))  # [U, S, D]
        weight = masked_softmax(torch.matmul(query, states.transpose(1, 2)), mask.unsqueeze(1))  # [U, S, K]
        evolved = self.evolution(states, weight, mask)  # [U, S, n]
        pooled = torch.matmul(weight, item)  # [U, S, D]
        return Interest(evolved.unsqueeze(1), pooled.unsqueeze(1), weight.unsqueeze(1), self._auxiliary_loss(states, user))

    def _auxiliary_loss(self, states: Tensor, user: Sequence) -> Tensor | None:
        if not (self.training and "negative_row" in user.inputs):
            return None
        loss = next_behaviour_loss(states.unsqueeze(1), user.look_up("retrieved_row"), user.look_up("negative_row"), user.mask)
        return self.alpha * loss
