"""MIMN (Pi et al., KDD 2019): a memory per user, written with every behaviour, read by the target.

A neural Turing machine of m slots. For a behaviour e_t the controller, a GRU, reads [e_t; r_t-1] and
gives keys; slots are addressed by the softmax of the cosine between key and slot (eq. 1):

    r_t = sum_i w^r(i) M(i)                                          read (eq. 2)
    M   = (1 - w^w (x) e) . M + w^w (x) a                            erase and add (eq. 3-4), . elementwise
    w^w is first spread by P = softmax(W_g g), g = sum of past w^w   utilisation (eq. 5-7)
    S(i) = GRU(S(i); [M(i), e_t]) for the k most read slots i        memory induction unit (eq. 9)

At prediction the target goes through the controller as a behaviour would, and reads the memory;
the induction channels are attended to. All that a request needs of its user is the state.
Differences: P is read as a matrix with rows that sum to one, so that the written weights sum to one
(an elementwise product, as the symbols could be read, would not), its softmax is of W_g g / sum(g) and
a constant on the diagonal, so that by default a weight stays where it was addressed to; keys pass a tanh
and the softmax of the addresses has a strength, as in the neural Turing machine; the utilisation loss
(eq. 8) is of the mean weight of a slot, so that it does not grow with the length, and small beside the
rest (at most 0.009); the first weights write a behaviour where its like stands, and what writes the memory
learns at a tenth of the rate (DECISIONS.md, 16), or it is never used; the choice of the k most read slots has a soft edge,
or rounding would decide between two that are read alike, and one behaviour later a state would
differ. Trained on the newest `trained_length` behaviours (paper: 100 to 200), served from all of them.
The short branch is target attention over the newest 50, the head gets the target's product with what it read.
Where negative behaviours are kept, only the short branch tells how they went: the state holds items alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import TargetAttention, attend_to_few
from export.layers.head import Mixture
from export.layers.split_gru import SplitGRUCell, near_identity
from export.models.contract import DataShape, Interest, ModelConfig, Sequence, as_array
from export.models.registry import register
from export.models.stateful import State, StatefulModel, UserState

EDGE = 0.1  # of a read weight
SHORTEST = 1e-12  # that anything is divided by
FOLDED_AT_ONCE = 128  # behaviours: bounds what a long life takes of the memory
FIRST_STRENGTH = 20.0  # of the addresses: cosines of vectors that have nothing in common differ by 0.1
FIRST_ERASED = -2.5  # logit: a slot forgets a thirteenth with each behaviour that is written to it alone


@dataclass(frozen=True)
class MIMNConfig(ModelConfig):
    """Sizes of the memory."""

    trained_length: int | None = 100
    slots: int = 8  # m
    controller_dim: int = 64
    induced: int = 1  # slots that the induction unit follows at each step, k
    utilisation: float = 0.01  # lambda of the utilisation loss


@register("mimn")
class MIMN(StatefulModel):
    """Multi-channel user Interest Memory Network."""

    config_type = MIMNConfig
    fold_at_once = 1
    slow = ("controller", "heads", "writing", "spread", "first_memory")
    scored_at_once = 256  # a step costs about the same for one user as for many
    state_axes = {  # noqa: RUF012
        "memory": ("slot", "D"),
        "induction": ("slot", "D"),
        "control": ("controller",),
        "read": ("D",),
        "usage": ("slot",),  # g
    }

    config: MIMNConfig
    stays: Tensor

    def __init__(self, shape: DataShape, config: MIMNConfig) -> None:
        super().__init__(shape, config, interest_dim=2 * config.dim)
        width, slots = config.dim, config.slots
        self.first_memory = nn.Parameter(torch.randn(slots, width) * 0.1)
        self.controller = SplitGRUCell(width, width, config.controller_dim)
        self.heads = nn.Linear(config.controller_dim, 2 * (width + 1))  # read, write: key and strength each
        self.writing = nn.Linear(config.controller_dim, 2 * width)  # what is erased, what is added
        self.spread = nn.Parameter(torch.zeros(slots, slots, slots))  # W_g
        self.register_buffer("stays", 4 * torch.eye(slots), persistent=False)  # P starts near the identity
        self.induction = SplitGRUCell(width, width, width)
        self.channels = TargetAttention(width, 0, config.heads, config.head_dim)
        self._begin_as_notebook()

    def _begin_as_notebook(self) -> None:
        """At first a behaviour is written, little changed, where what is like it stands, and a target reads there."""
        width = self.config.dim
        read, write = self.heads.weight.chunk(2)
        for weight in (read[:width], write[:width], self.writing.weight[width:]):
            near_identity(weight)
        with torch.no_grad():
            self.heads.bias.view(2, width + 1)[:, width] = FIRST_STRENGTH
            self.writing.bias[:width] = FIRST_ERASED
        self.controller.begin_as_input()

    def initial(self) -> State:
        slots, width = self.first_memory.shape
        control, like = self.config.controller_dim, torch.zeros
        return {
            "memory": self.first_memory,
            "induction": like(slots, width),
            "control": like(control),
            "read": like(width),
            "usage": like(slots),
        }

    def fold(self, state: State, behaviours: Sequence) -> State:
        item, real = behaviours.item.squeeze(1), behaviours.mask.squeeze(1).unsqueeze(-1).to(behaviours.item.dtype)
        for items, reals in zip(torch.split(item, FOLDED_AT_ONCE, 1), torch.split(real, FOLDED_AT_ONCE, 1), strict=True):
            state = self._fold_some(state, items, reals)
        return state

    def _fold_some(self, state: State, item: Tensor, real: Tensor) -> State:
        """`fold` of items [U, T, D]; holds every memory on the way, [U, T, m, D]."""
        known = self.controller.known(item)  # [U, T, 3 * controller]
        induction, memories, read_weights = state["induction"], [], []
        for known_now, real_now in zip(known.unbind(1), real.unbind(1), strict=True):
            state, read_weight = self.step(state, known_now, real_now)
            memories.append(state["memory"])
            read_weights.append(read_weight)
        if memories:
            induction = self.induce(induction, torch.stack(memories, 1), torch.stack(read_weights, 1), item, real)
        return state | {"induction": induction}

    def step(self, state: State, known: Tensor, real: Tensor) -> tuple[State, Tensor]:
        """Memory and controller after one behaviour, and what was read of it.

        Args:
            known: float32 [U, 3 * controller], what the controller takes of the behaviour.
            real: float32 [U, 1], 0 = padding, which leaves the state as it is.
        Returns: the state, its induction as it was, and the read weight float32 [U, m].
        """
        memory, usage = state["memory"], state["usage"]
        control = self.controller(known, state["read"], state["control"])  # [U, controller]
        read_weight, write_weight = self.address(control, memory)
        read = torch.matmul(read_weight.unsqueeze(-2), memory).squeeze(-2)  # [U, D]
        write = real * self.moved(write_weight, usage)
        erased, added = self.writing(control).unsqueeze(-2).chunk(2, dim=-1)  # [U, 1, D] each
        change = torch.tanh(added) - torch.sigmoid(erased) * memory
        happened = real > 0
        after = {
            "memory": memory + write.unsqueeze(-1) * change,
            "control": torch.where(happened, control, state["control"]),
            "read": torch.where(happened, read, state["read"]),
            "usage": usage + write,
        }
        return state | after, read_weight

    def address(self, control: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Where control [..., controller] points to in memory [..., m, D]: read and write weights [..., m] that sum to one."""
        read, write = self.pointed(torch.unflatten(self.heads(control), -1, (2, -1)), memory).unbind(-2)
        return read, write

    @staticmethod
    def pointed(head: Tensor, memory: Tensor) -> Tensor:
        """Weights [..., n, m] over the slots of memory [..., m, D], of heads [..., n, D + 1]: key and strength each (eq. 1)."""
        key = torch.tanh(head[..., :-1])  # [..., n, D]
        strength = (1 + nn.functional.softplus(head[..., -1:])) / _length(key)
        near = torch.matmul(key, (memory / _length(memory)).transpose(-1, -2))
        return torch.softmax(strength * near, dim=-1)

    def moved(self, write_weight: Tensor, usage: Tensor) -> Tensor:
        """w^w P: float32 [U, m], sums to one. P [U, m, m] moves weight from slots much written to others."""
        share = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1)
        logit = torch.addmm(self.stays.flatten(), share, self.spread.flatten(0, 1).T)
        logit = torch.unflatten(logit, -1, self.stays.shape)
        return torch.matmul(write_weight.unsqueeze(1), torch.softmax(logit, dim=-1)).squeeze(1)

    def induce(self, induction: Tensor, memories: Tensor, read_weights: Tensor, item: Tensor, real: Tensor) -> Tensor:
        """The channels [U, m, D] after T behaviours: memories [U, T, m, D] and read weights [U, T, m] as each left them."""
        known = self.induction.known(item).unsqueeze(2) + self.induction.found(memories)  # [U, T, m, 3 * D]
        share = (real * self.most_read(read_weights)).unsqueeze(-1)
        for known_now, share_now in zip(known.unbind(1), share.unbind(1), strict=True):
            induction = induction + share_now * (self.induction.next(known_now, induction) - induction)
        return induction

    def most_read(self, read_weight: Tensor) -> Tensor:
        """How far each slot is among the k most read: float32 [..., m], 1 = well inside, 0 = well outside."""
        last, first_outside = torch.topk(read_weight, self.config.induced + 1, dim=-1).values[..., -2:, None].unbind(-2)
        return torch.clamp(0.5 + (read_weight - (last + first_outside) / 2) / EDGE, 0, 1)

    def interest(self, target: Tensor, user: UserState) -> Interest:
        state = user.state
        control, last_read = (state[name][:, None, None] for name in ("control", "read"))  # [U, 1, 1, ...]
        control = self.controller.of_many(target, last_read, control)  # [U, G, S, controller]
        memory, heads = state["memory"].unsqueeze(1), self.config.dim + 1  # [U, 1, m, D]
        flat = nn.functional.linear(control.flatten(0, 2), self.heads.weight[:heads], self.heads.bias[:heads])  # a Gemm
        share = self.pointed(flat.view(*control.shape[:3], heads), memory)  # [U, G, S, m]
        channels = state["induction"].unsqueeze(1)  # [U, 1, m, D]
        real = torch.ones(channels.shape[:-1], dtype=torch.bool)
        value = (channels / self.channels.heads).unsqueeze(2).expand(-1, -1, self.channels.heads, -1, -1)
        induced = attend_to_few(self.channels, target, channels, real, value)  # [U, G, S, D], mean over heads
        parts = Mixture(share, state["memory"]), induced
        return Interest(parts, torch.matmul(share, memory), auxiliary_loss=self._uneven(state["usage"]))

    def _uneven(self, usage: Tensor) -> Tensor | None:
        if not self.training:
            return None
        share = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1)
        uneven = (share - share.mean(dim=-1, keepdim=True)).square().sum(dim=-1)
        return self.config.utilisation * uneven.mean()

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """The state of a user without behaviours."""
        return self.initial_tables()

    def weights_to_fold(self) -> dict[str, NDArray[Any]]:
        """As `store.memory.MemoryWriter` takes them."""
        width, heads = self.config.dim, self.config.dim + 1
        keys, strengths = [*range(width), *range(heads, heads + width)], [width, heads + width]
        of_heads = _with_bias(self.heads)
        told = torch.cat([of_heads[:, keys], _with_bias(self.writing), of_heads[:, strengths]], dim=1)
        matrices = {
            "of_behaviour": torch.cat([_with_bias(self.controller.known), _with_bias(self.induction.known)], dim=1),
            "of_read": self.controller.found.weight.T,
            "of_past": _with_bias(self.controller.hidden),
            "of_control": told,
            "of_use": torch.cat([self.spread.flatten(0, 1).T, self.stays.flatten()[None]]),
            "of_slot": self.induction.found.weight.T,
            "of_channel": _with_bias(self.induction.hidden),
        }
        sizes = {"induced": np.array(self.config.induced), "edge": np.array(EDGE, np.float32)}
        return {name: as_array(matrix) for name, matrix in matrices.items()} | sizes


def _with_bias(layer: nn.Linear) -> Tensor:
    """[in + 1, out], the bias last."""
    return torch.cat([layer.weight.T, layer.bias[None]])


def _length(vector: Tensor) -> Tensor:
    """float32 [..., 1] of vectors [..., D], never zero."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return length.clamp(min=SHORTEST)
