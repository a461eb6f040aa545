"""Search over clusters (TWIN-V2): TWIN's relevance plus ln n for a cluster of n behaviours.

Behaviours that no cluster has taken yet are clusters of one, whose ln n is 0: without any cluster this
is TWIN's search.
"""

import numpy as np

from store.search.projection import ProjectionSearch
from store.types import Behaviours, Candidates, Floats, Retrieved, Rows


class ClusterSearch(ProjectionSearch):
    """As `ProjectionSearch`; gives the graph `retrieved_size` int32 [G, K], 0 at padding."""

    clustered = True

    def bias(self, behaviours: Behaviours, cross: Rows) -> Floats:
        return super().bias(behaviours, cross) + np.log(_size(behaviours))[:, None]

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        found = super().__call__(candidates, behaviours, cross)
        size = _size(behaviours) if len(behaviours) else np.zeros(1, np.int32)
        found.extra["retrieved_size"] = np.where(found.mask, size[found.index], 0).astype(np.int32)
        return found


def _size(behaviours: Behaviours) -> Rows:
    return np.ones(len(behaviours), np.int32) if behaviours.size is None else behaviours.size
