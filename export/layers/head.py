"""The last layers, the same for every model: interests, target and context to one logit."""

import torch
from torch import Tensor, nn

HIDDEN = (200, 80)  # DIEN, MIMN and SIM: 200-80


class Head(nn.Module):
    """MLP 200-80-1 with PReLU."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        first, second = HIDDEN
        self.layers = nn.Sequential(
            nn.Linear(in_dim, first), nn.PReLU(init=0.0), nn.Linear(first, second), nn.PReLU(init=0.0), nn.Linear(second, 1)
        )

    def forward(self, parts: list[Tensor]) -> Tensor:
        """Logits [U, P] from parts float32 [U, P, *]."""
        joined = torch.cat(parts, dim=-1)
        out: Tensor = self.layers(joined.flatten(0, 1))  # two axes, as a Gemm has them: bias and slope are part of it
        return out.view(joined.shape[:2])
