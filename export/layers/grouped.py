"""A product with a matrix and an addend of each group's own, in the form that a graph for one user is quickest at."""

import torch
from torch import Tensor


def product_plus(addend: Tensor, rows: Tensor, matrix: Tensor) -> Tensor:
    """addend + rows @ matrix: float32 [U, G, S, E] of [U, G, 1, E], [U, G, S, D] and [U, G, D, E].

    Of one group it is one Gemm, and the addition no pass of its own.
    """
    flat = addend.flatten(0, 1), rows.flatten(0, 1), matrix.flatten(0, 1)
    one = len(flat[1]) == 1
    found = torch.addmm(*(part[0] for part in flat)) if one else torch.baddbmm(*flat)
    return found.reshape(*rows.shape[:3], -1)
