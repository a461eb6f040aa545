"""The one masked softmax."""

import torch
from torch import Tensor

LOWEST = -1e9  # finite, so that a row of nothing but padding gives zeros and not NaN


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among real entries; a row without any gives zeros.

    Args:
        logits: float32 [..., K]; mask: bool, broadcast to it, True = real.
    """
    weight = torch.softmax(logits.masked_fill(~mask, LOWEST), dim=-1)
    return weight * mask
