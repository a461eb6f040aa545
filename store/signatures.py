"""SimHash: one bit per random direction, 64 bits to a word.

    bit_j(v) = 1 if v . H[:, j] > 0 else 0          (Charikar 2002; ETA section 4.2 with the sign of
                                                     the product: see export/models/eta.py)

H is drawn once from a seed, saved with the model and never changes. Signatures are made here and
nowhere else, in float32, so that both sides of a Hamming distance follow one rule.
"""

import numpy as np
from numpy.typing import NDArray

from store.types import Floats

BITS = 64

Signatures = NDArray[np.uint64]


def random_directions(width: int, seed: int) -> Floats:
    """H: float32 [D, 64], standard normal."""
    return np.random.default_rng(seed).standard_normal((width, BITS), dtype=np.float32)


def sign(vectors: Floats, directions: Floats) -> Signatures:
    """Signatures uint64 [N] of vectors float32 [N, D]; bit j = hash j. The zero vector gets 0."""
    bits = (vectors @ directions) > 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)
