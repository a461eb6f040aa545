"""Search by signature (ETA, 4.2): the K behaviours nearest in Hamming distance, ties newest first."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.search.spec import Search, nothing, one_by_one
from store.search.top_k import nearest
from store.types import Behaviours, Candidates, Retrieved, Rows


class HammingSearch(Search):
    """Table `signature` uint64 [N]. Cost: 2 C L byte passes; no memory but the answer."""

    reads = "life"
    item_tables = ("signature",)
    signature: NDArray[np.uint64]

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        if not len(behaviours):
            return nothing(len(candidates.row))
        index = nearest_of_all(self.signature[candidates.row], self.signature[behaviours.row], min(self.k, len(behaviours)))
        return one_by_one(index, len(candidates.row), len(behaviours))


@njit(cache=True, nogil=True)
def nearest_of_all(targets: NDArray[np.uint64], signature: NDArray[np.uint64], k: int) -> Rows:
    """`nearest` for targets uint64 [C] among behaviours uint64 [L]: int32 [C, k], ascending in each row."""
    out = np.empty((len(targets), k), np.int32)
    distance = np.empty(len(signature), np.uint8)
    for c in range(len(targets)):
        nearest(targets[c], signature, k, distance, out[c])
    return out
