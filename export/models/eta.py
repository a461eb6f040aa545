"""ETA (Chen et al., 2021): search by SimHash signatures of the model's own item vectors, end to end.

GSU: the K behaviours nearest to the target in Hamming distance, ties newest first; H is drawn once
and fixed, signatures follow the vectors at every step, no gradient goes through the search. ESU:
multi-head target attention over the K vectors.
Differences: Algorithm 1 as printed sums the signs of the elementwise products; that is not SimHash.
Here a bit is the sign of the product e . H_i (as in SDIM eq. 5). The prose of eq. 8 says the largest
distance, it must be the smallest. Behaviours carry a time-gap embedding (the paper's ETA + t). The
short branch attends to the newest 50 (paper: 48).
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.layers.attention import HeadOutput, TargetAttention
from export.models.attending import AttendingModel
from export.models.contract import DataShape, ModelConfig, as_array
from export.models.registry import register
from store.signatures import random_directions, sign


@register("eta")
class ETA(AttendingModel):
    """Efficient long-sequential Target Attention."""

    search_name = "hamming"
    directions: Tensor

    def __init__(self, shape: DataShape, config: ModelConfig) -> None:
        super().__init__(shape, config, interest_dim=config.dim)
        self.register_buffer("directions", torch.from_numpy(random_directions(config.dim, config.seed)))  # H [D, 64]
        self.gap = nn.Embedding(shape.cross_features[0], config.side_dim)
        self.attention = TargetAttention(config.dim, config.side_dim, config.heads, config.head_dim)
        self.out = HeadOutput(config.heads, config.dim + config.side_dim, config.head_dim, config.dim)

    def tables(self, item_vector: Tensor) -> dict[str, NDArray[Any]]:
        """`signature` uint64 [n]."""
        signature: NDArray[np.uint64] = sign(as_array(item_vector), as_array(self.directions))
        return {"signature": signature}
