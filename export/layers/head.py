"""The last layers, the same for every model: interests, target and context to one logit."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

HIDDEN = (200, 80)  # DIEN, MIMN and SIM: 200-80


class Mixture(NamedTuple):
    """Vectors that are weighted sums of a few, which all candidates of a user share."""

    share: Tensor  # [U, P, M], or with other axes of places
    few: Tensor  # [U, M, D]


class Head(nn.Module):
    """MLP 200-80-1 with PReLU. What the first layer makes of a mixture is a mixture too, of what it makes of the few."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        first, second = HIDDEN
        self.layers = nn.Sequential(
            nn.Linear(in_dim, first), nn.PReLU(init=0.0), nn.Linear(first, second), nn.PReLU(init=0.0), nn.Linear(second, 1)
        )

    def forward(self, parts: Sequence[Tensor | Mixture]) -> Tensor:
        """Logits [U, P] from parts float32 [U, P, *], side by side; one at least is whole."""
        whole = [part for part in parts if isinstance(part, Tensor)]
        places = whole[0].shape[:2]
        if len(whole) == len(parts):
            out: Tensor = self.layers(torch.cat(whole, dim=-1).flatten(0, 1))  # two axes, as a Gemm has them: bias is part of it
        else:
            out = self.layers[1:](self._first(parts))
        return out.view(places)

    def _first(self, parts: Sequence[Tensor | Mixture]) -> Tensor:
        """The first layer of parts of which some are mixtures: [U * P, *]."""
        weight, bias = (self.layers.get_parameter(name) for name in ("0.weight", "0.bias"))
        widths = [(part.few if isinstance(part, Mixture) else part).shape[-1] for part in parts]
        columns = list(zip(parts, torch.split(weight, widths, dim=1), strict=True))
        whole = [pair for pair in columns if isinstance(pair[0], Tensor)]
        mixed = [(part, column) for part, column in columns if isinstance(part, Mixture)]
        joined, own = (torch.cat(beside, dim=-1) for beside in zip(*whole, strict=True))
        share = torch.cat([part.share for part, _ in mixed], dim=-1)  # [U, P, all M]
        few = torch.cat([torch.matmul(part.few, column.T) for part, column in mixed], dim=1)
        hidden = nn.functional.linear(joined.flatten(0, 1), own, bias)
        return torch.baddbmm(hidden.view(*joined.shape[:2], -1), share, few).flatten(0, 1)
