"""Dice, the activation of DIN (eq. 9): a PReLU whose rectifying point follows the data."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

MOMENTUM = 0.01
EPSILON = 1e-8
SMALLEST = 1e-6  # of 1 - alpha: with less, Dice is the identity


class FoldedDice(NamedTuple):
    """Dice with fixed statistics, in four passes: f(s) = gain * ( (rate s) * (sigmoid(rate s - shift) + slope) ).

    `rate` belongs into the weights that make s, `gain` into those that read f.
    """

    rate: Tensor  # [width], as all
    shift: Tensor
    slope: Tensor
    gain: Tensor

    def __call__(self, scaled: Tensor, bias: Tensor | None = None) -> Tensor:
        """f / gain of `scaled`, which is rate * s without the part of `bias` float32 [width]: float32 [..., S, width]."""
        rows = scaled.shape[-2:]  # constants of whole rows: an addition of short ones is as slow as a sigmoid
        added = torch.zeros_like(self.rate) if bias is None else bias * self.rate
        p = torch.sigmoid(scaled + (added - self.shift).expand(rows)) + self.slope.expand(rows)
        return (scaled if bias is None else scaled + added.expand(rows)) * p

    def gate(self, bias: Tensor | None = None) -> Tensor:
        """The same as constants of `store.pair_unit`: float32 [4, width]."""
        added = torch.zeros_like(self.rate) if bias is None else bias * self.rate
        return torch.stack([torch.ones_like(added), added, added - self.shift, self.slope])


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

    def folded(self) -> FoldedDice:
        """What it is with the statistics it has."""
        rate = torch.rsqrt(self.variance + EPSILON)
        rest = 1 - self.alpha
        rest = torch.where(rest.abs() < SMALLEST, torch.full_like(rest, SMALLEST), rest)
        return FoldedDice(rate, rate * self.mean, self.alpha / rest, rest / rate)

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
