"""A GRU cell of which a part of the input is known before the recurrence, and so computed for all steps at once."""

import torch
from torch import Tensor, nn

from export.layers.grouped import product_plus

NOISE = 0.3  # of torch's own first weights, beside the identity


def near_identity(weight: Tensor) -> None:
    """Make a weight [out, in] pass on what comes in, as far as both are wide, with some of its first values beside."""
    with torch.no_grad():
        weight.mul_(NOISE).add_(torch.eye(*weight.shape))


class SplitGRUCell(nn.Module):
    """The GRU of [known; found]; h' = (1 - z) . n + z . h, gates in the order reset, update, new."""

    def __init__(self, known: int, found: int, hidden: int) -> None:
        super().__init__()
        self.known = nn.Linear(known, 3 * hidden)
        self.found = nn.Linear(found, 3 * hidden, bias=False)
        self.hidden = nn.Linear(hidden, 3 * hidden)

    def begin_as_input(self) -> None:
        """First weights with which hidden is about the known input (as far as it is as wide), and the past says little."""
        width = self.hidden.in_features
        near_identity(self.known.weight[2 * width :])
        with torch.no_grad():
            self.known.bias[width : 2 * width] = -2.0  # the gate that keeps the past
            self.found.weight.mul_(0.1 * NOISE)
            self.hidden.weight[2 * width :].mul_(NOISE)

    def forward(self, known: Tensor, found: Tensor, hidden: Tensor) -> Tensor:
        """Next hidden [U, H], of `self.known`'s output [U, 3H], the found part [U, F] and hidden [U, H]."""
        return self.next(torch.addmm(known, found, self.found.weight.T), hidden)

    def of_many(self, known: Tensor, found: Tensor, hidden: Tensor) -> Tensor:
        """Next hidden [U, G, S, H] of known inputs [U, G, S, K], all with the found part [U, G, 1, F] and hidden [U, G, 1, H]:
        what these say of the gates is added once."""
        told, remembered = torch.split(self.hidden(hidden), self._widths, dim=-1)
        once = self.found(found) + self.known.bias + nn.functional.pad(told, (0, self._widths[1]))
        seen = product_plus(once, known, self.known.weight.T.expand(*known.shape[:2], -1, -1))
        gates, new = torch.split(seen, self._widths, dim=-1)
        return _mixed(gates, new, remembered, hidden)

    def next(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Next hidden [..., H] of the whole input's gates [..., 3H]."""
        told, remembered = torch.split(self.hidden(hidden), self._widths, dim=-1)
        gates, new = torch.split(seen, self._widths, dim=-1)
        return _mixed(gates + told, new, remembered, hidden)

    @property
    def _widths(self) -> list[int]:
        """Of what belongs to the gates for reset and update, and to the new."""
        return [2 * self.hidden.in_features, self.hidden.in_features]


def _mixed(gates: Tensor, new: Tensor, remembered: Tensor, hidden: Tensor) -> Tensor:
    """Next hidden: `gates` have been told everything, `remembered` is what the reset lets into the new."""
    reset, update = torch.sigmoid(gates).chunk(2, dim=-1)
    new = torch.tanh(new + reset * remembered)
    return new + update * (hidden - new)  # as torch.lerp, which is nine operators in a graph
