"""No search: the newest K behaviours, one list for all candidates."""

import numpy as np

from store.search.spec import Search
from store.types import Behaviours, Candidates, Retrieved, Rows


class NewestSearch(Search):
    """G = 1, S = C; always K entries, oldest first, the padding behind them, so that a graph may count on K."""

    reads = "newest"
    group = None

    @property
    def newest(self) -> int:
        return self.k

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        count = min(len(behaviours), self.k)
        index = np.zeros((1, self.k), np.int32)
        index[0, :count] = np.arange(len(behaviours) - count, len(behaviours))
        mask = np.arange(self.k)[None] < count
        return Retrieved(index, mask, np.arange(len(candidates.row), dtype=np.int32), count)
