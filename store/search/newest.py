"""No search: the newest K behaviours, one list for all candidates (din)."""

import numpy as np

from store.search.spec import Search
from store.types import Behaviours, Candidates, Retrieved, Rows


class NewestSearch(Search):
    """G = 1, S = C. The empty user gets one masked entry."""

    reads = "newest"
    group = None

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        count = min(len(behaviours), self.k)
        index = np.zeros((1, max(count, 1)), np.int32)
        index[0, :count] = np.arange(len(behaviours) - count, len(behaviours))
        mask = np.zeros(index.shape, np.bool_)
        mask[0, :count] = True
        return Retrieved(index, mask, np.arange(len(candidates.row), dtype=np.int32), count)
