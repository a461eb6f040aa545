"""DSIN: Deep Session Interest Network (Feng et al., IJCAI 2019). Interests of sessions, and how they evolve.

    Q_k + BE,  BE(k, t, c) = w^K_k + w^T_t + w^C_c                            (eq. 2-3)
    I_k = mean over t of FFN(self-attention within the session)               (eq. 4-6)
    H = Bi-LSTM(I_1 .. I_K)                                                   (eq. 7-8)
    U^I = sum_k softmax_k(I_k W^I X) I_k,  U^H = sum_k softmax_k(H_k W^H X) H_k   (eq. 9-10), X the target in both

Sessions: more than 30 minutes between two behaviours part them; the newest 5, of each the newest 10.
All but the two activation units is done once a request, whatever the number of candidates.

Differences: the LSTM has no peepholes (eq. 7 has). How its two directions are joined the paper leaves
open; they are averaged, as in the authors' code, in one layer. That code also drops sessions of one
or two behaviours: the paper does not, and nothing is dropped here. It runs without bias encoding,
because the loss "may be NaN"; here w starts at zero and means are over real behaviours, and it is not.
W^I starts as a multiple of the identity, so that like attracts like from the first step.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.layers.attention import GAIN
from export.layers.head import Mixture
from export.layers.masking import masked_softmax
from export.layers.self_attention import SelfAttention
from export.models.contract import CTRModel, DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register
from store.search.sessions import SESSIONS


@dataclass(frozen=True)
class DSINConfig(ModelConfig):
    """DSIN reads sessions only; it has no second branch."""

    k: int = 50  # 5 sessions of 10 behaviours
    recent: int = 0


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of float32 [..., T, D] over the real entries of bool [..., T]: [..., D], zeros where there is none."""
    return (x * mask.unsqueeze(-1)).sum(dim=-2) / mask.sum(dim=-1, keepdim=True).clamp(min=1)


class SessionInterest(nn.Module):
    """I_k: self-attention with bias encoding inside each session, the same weights for all of them."""

    def __init__(self, sessions: int, length: int, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.session_bias = nn.Parameter(torch.zeros(sessions, 1, 1))  # w^K
        self.place_bias = nn.Parameter(torch.zeros(length, 1))  # w^T
        self.unit_bias = nn.Parameter(torch.zeros(dim))  # w^C
        self.attention = SelfAttention(dim, heads, head_dim)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)  # W^O
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.attended, self.fed = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, item: Tensor, mask: Tensor) -> Tensor:
        """Interests float32 [U, sessions, D] of item float32 [U, sessions, T, D], mask bool [U, sessions, T]."""
        x = item + self.session_bias + self.place_bias + self.unit_bias
        heads = self.attention(x, mask.unsqueeze(-2))  # [U, sessions, H, T, d_k]
        x = self.attended(x + self.out(heads.transpose(-2, -3).flatten(-2)))
        return masked_mean(self.fed(x + self.feed_forward(x)), mask)


class BiLSTM(nn.Module):
    """Forward and backward LSTM over the sessions, averaged; a session that is not there changes no state.

    Both take their steps together, and all sessions meet the input's weights at once: a graph starts few small products.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.forwards, self.backwards = nn.LSTMCell(dim, dim), nn.LSTMCell(dim, dim)

    def forward(self, interest: Tensor, mask: Tensor) -> Tensor:
        """float32 [U, sessions, D] of the same; mask bool [U, sessions]."""
        both = torch.stack([interest, interest.flip(1)])  # [2, U, sessions, D], a direction each, as everything here
        real = torch.stack([mask, mask.flip(1)]).unsqueeze(-1)
        bias = self._of_each("bias_ih") + self._of_each("bias_hh")
        given = torch.matmul(both, self._of_each("weight_ih")[:, None].mT) + bias[:, None, None]
        recurrent = self._of_each("weight_hh")[:, None].mT
        hidden = memory = torch.zeros_like(both[:, :, :1])
        states = []
        for gates, is_real in zip(torch.split(given, 1, dim=2), torch.split(real, 1, dim=2), strict=True):
            takes, keeps, new, shows = (gates + torch.matmul(hidden, recurrent)).chunk(4, dim=-1)
            new_memory = keeps.sigmoid() * memory + takes.sigmoid() * new.tanh()
            new_hidden = shows.sigmoid() * new_memory.tanh()
            hidden, memory = torch.where(is_real, new_hidden, hidden), torch.where(is_real, new_memory, memory)
            states.append(hidden)
        hidden = torch.cat(states, dim=2)
        return (hidden[0] + hidden[1].flip(1)) / 2

    def _of_each(self, name: str) -> Tensor:
        """A parameter of the two cells: [2, *]."""
        return torch.stack([cell.get_parameter(name) for cell in (self.forwards, self.backwards)])


@register("dsin")
class DSIN(CTRModel):
    """Deep Session Interest Network."""

    config_type = DSINConfig
    search_name = "sessions"
    explains = False  # its weights are of sessions
    fixed_k = True
    reads = ("retrieved_row", "retrieved_mask")

    def __init__(self, shape: DataShape, config: DSINConfig) -> None:
        if config.k % SESSIONS:
            raise ValueError(f"model dsin: k is {config.k}, it must be a multiple of {SESSIONS}, the sessions")
        super().__init__(shape, config, interest_dim=2 * config.dim)
        self.extract = SessionInterest(SESSIONS, config.k // SESSIONS, config.dim, config.heads, config.head_dim)
        self.interact = BiLSTM(config.dim)
        self.interest_unit = nn.Parameter(torch.eye(config.dim) * GAIN / math.sqrt(config.dim))  # W^I
        self.hidden_unit = nn.Parameter(torch.randn(config.dim, config.dim) / config.dim)  # W^H

    def interest(self, target: Tensor, user: Sequence) -> Interest:
        item = user.item.reshape(-1, SESSIONS, self.config.k // SESSIONS, self.config.dim)  # [U, 5, T, D]
        mask = user.mask.reshape(-1, SESSIONS, self.config.k // SESSIONS)
        real = mask.any(dim=-1)  # [U, 5]
        interest = self.extract(item, mask)
        hidden = self.interact(interest, real)
        of_interest = self._activate(target, interest, self.interest_unit, real)  # [U, 1, S, 5]
        of_hidden = self._activate(target, hidden, self.hidden_unit, real)
        like_target = torch.matmul(of_interest, masked_mean(item, mask).unsqueeze(1))
        return Interest((Mixture(of_interest, interest), Mixture(of_hidden, hidden)), like_target)

    @staticmethod
    def _activate(target: Tensor, session: Tensor, unit: Tensor, real: Tensor) -> Tensor:
        """softmax_k(session_k W X): [U, 1, S, 5] of target [U, 1, S, D] and sessions [U, 5, D]."""
        key = torch.matmul(session, unit).unsqueeze(1)  # W meets 5 sessions, not S candidates
        return masked_softmax(torch.matmul(target, key.transpose(-1, -2)), real[:, None, None])
