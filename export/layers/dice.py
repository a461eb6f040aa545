"""Dice, the activation of DIN (eq. 9): a PReLU whose rectifying point follows the data."""

import torch
from torch import Tensor, nn

MOMENTUM = 0.01
EPSILON = 1e-8


class Dice(nn.Module):
    """f(s) = p s + (1 - p) alpha s, p = sigmoid((s - mean) / sqrt(var + eps)).

    Statistics of the batch in training, over real entries only; moving averages otherwise, so that a
    score does not depend on which candidates stand beside it.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, s: Tensor, mask: Tensor) -> Tensor:
        """float32 [..., width]; mask bool [...], True = real."""
        mean, variance = self.mean, self.variance
        if self.training:
            real = s.detach()[mask]
            if len(real) > 1:
                variance, mean = torch.var_mean(real, dim=0, unbiased=False)
                self.mean.lerp_(mean, MOMENTUM)
                self.variance.lerp_(variance, MOMENTUM)
        p = torch.sigmoid((s - mean) * torch.rsqrt(variance + EPSILON))
        return s * (self.alpha + (1 - self.alpha) * p)
