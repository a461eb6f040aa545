"""A GRU cell of which a part of the input is known before the recurrence, and so computed for all steps at once."""

import torch
from torch import Tensor, nn

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
        """Next hidden [..., H], of `self.known`'s output [..., 3H], the found part [..., F] and hidden [..., H]."""
        return self.next(known + self.found(found), hidden)

    def next(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Next hidden [..., H] of the whole input's gates [..., 3H]."""
        width = hidden.shape[-1]
        remembered = self.hidden(hidden)
        reset, update = torch.sigmoid(seen[..., : 2 * width] + remembered[..., : 2 * width]).chunk(2, dim=-1)
        new = torch.tanh(torch.addcmul(seen[..., 2 * width :], reset, remembered[..., 2 * width :]))
        return torch.lerp(new, hidden, update)
