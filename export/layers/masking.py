"""The one masked softmax."""

import torch
from torch import Tensor

LOWEST = -1e9  # finite, so that a row of nothing but padding gives zeros and not NaN
FALL = 80.0  # e^-80 is nothing beside 1, and still a normal number: those below are ten times as slow to compute


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among real entries; a row without any gives zeros. Entries less than e^-80 count as that.

    Args:
        logits: float32 [..., K]; mask: bool, broadcast to it, True = real.
    """
    logits = logits.masked_fill(~mask, LOWEST)
    return torch.softmax(without_falls(logits), dim=-1) * mask


def without_falls(logits: Tensor) -> Tensor:
    """Logits float32 [..., K] of a softmax, none more than `FALL` below the largest."""
    lowest = logits.amax(dim=-1) - FALL  # before it has an axis of one: a graph takes those number by number
    return torch.maximum(logits, lowest.unsqueeze(-1))
