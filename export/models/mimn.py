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
(an elementwise product, as the symbols could be read, would not); the softmax of the addresses has a
strength, as in the neural Turing machine; the utilisation loss (eq. 8) is of the mean weight of a
slot, so that it does not grow with the length; the choice of the k most read slots has a soft edge,
or rounding would decide between two that are read alike, and one behaviour later a state would
differ. Trained on the newest `trained_length` behaviours (paper: 100 to 200), served from all of them.
The short branch is target attention over the newest 50.
"""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import TargetAttention
from export.models.contract import DataShape, Interest, ModelConfig, Sequence
from export.models.registry import register
from export.models.stateful import State, StatefulModel, UserState

EDGE = 0.05  # of a read weight


@dataclass(frozen=True)
class MIMNConfig(ModelConfig):
    """Sizes of the memory."""

    trained_length: int | None = 100
    slots: int = 8  # m
    controller_dim: int = 64
    induced: int = 1  # slots that the induction unit follows at each step, k
    utilisation: float = 0.01  # lambda of the utilisation loss


class Head(nn.Module):
    """A read or write head: where a controller's output points to."""

    def __init__(self, controller_dim: int, width: int) -> None:
        super().__init__()
        self.key, self.strength = nn.Linear(controller_dim, width), nn.Linear(controller_dim, 1)

    def forward(self, control: Tensor, memory: Tensor) -> Tensor:
        """Weights [..., m] that sum to one, of control [..., controller] on memory [..., m, W]."""
        key = nn.functional.normalize(torch.tanh(self.key(control)), dim=-1)
        near = torch.matmul(nn.functional.normalize(memory, dim=-1), key.unsqueeze(-1)).squeeze(-1)
        strength = 1 + nn.functional.softplus(self.strength(control))
        return torch.softmax(strength * near, dim=-1)


@register("mimn")
class MIMN(StatefulModel):
    """Multi-channel user Interest Memory Network."""

    config_type = MIMNConfig
    fold_at_once = 1
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
        width, control, slots = config.dim, config.controller_dim, config.slots
        self.first_memory = nn.Parameter(torch.randn(slots, width) * 0.1)
        self.controller = nn.GRUCell(2 * width, control)
        self.reader, self.writer = Head(control, width), Head(control, width)
        self.erase, self.add = nn.Linear(control, width), nn.Linear(control, width)
        self.spread = nn.Parameter(torch.zeros(slots, slots, slots))  # W_g
        self.register_buffer("stays", 4 * torch.eye(slots), persistent=False)  # P starts near the identity
        self.induction = nn.GRUCell(2 * width, width)
        self.channels = TargetAttention(width, 0, config.heads, config.head_dim)

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
        item, mask = behaviours.item.squeeze(1), behaviours.mask.squeeze(1)  # [U, T, D], [U, T]
        for t in range(item.shape[1]):
            after, real = self.step(state, item[:, t]), mask[:, t]
            state = {
                name: torch.where(real.view(-1, *[1] * (value.dim() - 1)), value, state[name]) for name, value in after.items()
            }
        return state

    def step(self, state: State, item: Tensor) -> State:
        """The state after one behaviour, item float32 [U, D]."""
        memory, usage = state["memory"], state["usage"]
        control = self.controller(torch.cat([item, state["read"]], dim=-1), state["control"])  # [U, controller]
        read_weight = self.reader(control, memory)  # [U, m]
        read = torch.matmul(read_weight.unsqueeze(1), memory).squeeze(1)  # [U, D]
        write = self.write_weight(control, memory, usage).unsqueeze(-1)  # [U, m, 1]
        erase, add = torch.sigmoid(self.erase(control)).unsqueeze(1), torch.tanh(self.add(control)).unsqueeze(1)
        memory = (1 - write * erase) * memory + write * add
        return {
            "memory": memory,
            "induction": self._induce(state["induction"], memory, item, read_weight),
            "control": control,
            "read": read,
            "usage": usage + write.squeeze(-1),
        }

    def write_weight(self, control: Tensor, memory: Tensor, usage: Tensor) -> Tensor:
        """w^w P: float32 [U, m], sums to one. P [U, m, m] moves weight from slots much written to others."""
        share = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1)
        moved = torch.softmax(torch.einsum("ijk,uk->uij", self.spread, share) + self.stays, dim=-1)
        return torch.matmul(self.writer(control, memory).unsqueeze(1), moved).squeeze(1)

    def _induce(self, induction: Tensor, memory: Tensor, item: Tensor, read_weight: Tensor) -> Tensor:
        users, slots, width = induction.shape
        seen = torch.cat([memory, item.unsqueeze(1).expand(-1, slots, -1)], dim=-1)
        induced = self.induction(seen.flatten(0, 1), induction.flatten(0, 1)).view(users, slots, width)
        return torch.lerp(induction, induced, self.most_read(read_weight).unsqueeze(-1))

    def most_read(self, read_weight: Tensor) -> Tensor:
        """How far each slot is among the k most read: float32 [U, m], 1 = well inside, 0 = well outside."""
        last, first_outside = torch.topk(read_weight, self.config.induced + 1, dim=-1).values[:, -2:].unsqueeze(-1).unbind(1)
        return torch.clamp(0.5 + (read_weight - (last + first_outside) / 2) / EDGE, 0, 1)

    def interest(self, target: Tensor, user: UserState) -> Interest:
        state = user.state
        memory = state["memory"][:, None, None]  # [U, 1, 1, m, D]
        shape = target.shape[:-1]  # U, G, S
        last_read = state["read"][:, None, None].expand(*shape, -1)
        last_control = state["control"][:, None, None].expand(*shape, -1)
        control = self.controller(
            torch.cat([target, last_read], dim=-1).flatten(0, 2), last_control.flatten(0, 2)
        ).unflatten(0, shape)  # fmt: skip
        read = torch.matmul(self.reader(control, memory).unsqueeze(-2), memory).squeeze(-2)  # [U, G, S, D]
        channels = state["induction"].unsqueeze(1)  # [U, 1, m, D]
        real = torch.ones(channels.shape[:-1], dtype=torch.bool)
        induced = self.channels(target, channels, channels[..., :0], real)[0].mean(dim=3)  # [U, G, S, D]
        return Interest(torch.cat([read, induced], dim=-1), read, auxiliary_loss=self._uneven(state["usage"]))

    def _uneven(self, usage: Tensor) -> Tensor | None:
        if not self.training:
            return None
        share = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1)
        uneven = (share - share.mean(dim=-1, keepdim=True)).square().sum(dim=-1)
        return self.config.utilisation * uneven.mean()

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """The state of a user without behaviours."""
        return self.initial_tables()
