"""Search over clusters (TWIN-V2): TWIN's relevance plus ln n for a cluster of n behaviours.

Behaviours that no cluster has taken yet are clusters of one, whose ln n is 0: without any cluster this
is TWIN's search.
"""

import numpy as np

from store.search.projection import ProjectionSearch
from store.types import Behaviours, Floats, Rows


class ClusterSearch(ProjectionSearch):
    """As `ProjectionSearch`, with ln n added to every head's relevance."""

    clustered = True

    def bias(self, behaviours: Behaviours, cross: Rows) -> Floats:
        return super().bias(behaviours, cross) + np.log(behaviours.sizes)[:, None]
