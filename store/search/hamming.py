"""Search by signature (ETA, 4.2): the K behaviours nearest in Hamming distance, ties newest first."""

import numpy as np
from numpy.typing import NDArray

from store.search.nearest import nearest_of_all
from store.search.spec import Search, nothing, one_by_one
from store.types import Behaviours, Candidates, Retrieved, Rows


class HammingSearch(Search):
    """Table `signature` uint64 [N]. Cost: C passes over 8 bytes for each different item."""

    reads = "life"
    item_tables = ("signature",)
    signature: NDArray[np.uint64]

    def check(self, buckets: list[int]) -> None:
        if self.signature.dtype != np.uint64 or self.signature.ndim != 1:
            raise ValueError(f"signature {self.signature.dtype} {self.signature.shape}: uint64 [N]")

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        if not len(behaviours):
            return nothing(len(candidates.row))
        index = nearest_of_all(self.signature[candidates.row], self.signature, behaviours.row, min(self.k, len(behaviours)))
        return one_by_one(index, len(candidates.row), len(behaviours))
