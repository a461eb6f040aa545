"""No search: every behaviour of the user's life, one list for all candidates (sdim, mimn fold them into a state)."""

import numpy as np

from store.search.spec import Search
from store.types import Behaviours, Candidates, Retrieved, Rows


class LifeSearch(Search):
    """G = 1, S = C, K = L whatever the spec's k. The empty user gets one masked entry."""

    reads = "life"
    group = None

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        count = len(behaviours)
        index = np.arange(max(count, 1), dtype=np.int32)[None]
        mask = np.full(index.shape, count > 0)
        return Retrieved(index, mask, np.arange(len(candidates.row), dtype=np.int32), count)
