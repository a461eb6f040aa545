"""Hard search (SIM, 3.2): the newest K behaviours of the candidate's own category.

Candidates of one category share one list, so they are dealt into groups of four that attend
together: the [C, K, D] tensor of one list per candidate never exists.
"""

import numpy as np

from store.search.spec import Search
from store.types import FIRST_KNOWN, Behaviours, Candidates, Retrieved, Rows

GROUP = 4  # S: with 150 categories and 500 candidates about 230 groups, a fifth of the places padding


class CategorySearch(Search):
    """G groups of 4 places; a candidate without a known category retrieves nothing."""

    reads = "categories"
    group = GROUP
    deals = True

    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        by_category = np.argsort(candidates.category, kind="stable").astype(np.int32)  # [C]
        categories, sizes = np.unique(candidates.category, return_counts=True)  # [Q]
        groups = -(-sizes // GROUP)  # [Q] groups of each category

        # deal: candidate i of its category stands at place i of that category's groups
        first_place = (np.cumsum(groups) - groups) * GROUP  # [Q]
        within = np.arange(len(by_category)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # [C]
        place = np.full(int(groups.sum()) * GROUP, -1, np.int32)  # [G * S]
        place[np.repeat(first_place, sizes) + within] = by_category

        # behaviours by category, time order kept: those of category q are one slice
        order = np.argsort(behaviours.category, kind="stable")  # [L]
        start, end = np.searchsorted(behaviours.category, [categories, categories + 1], sorter=order)  # [Q] each
        found = np.where(categories >= FIRST_KNOWN, end - start, 0)  # [Q]
        kept = np.minimum(found, self.k)  # [Q]
        width = max(int(kept.max(initial=0)), 1)
        offset = np.arange(width)
        mask = offset < kept[:, None]  # [Q, K]
        index = np.zeros((len(categories), width), np.int32)
        index[mask] = order[(end[:, None] - kept[:, None] + offset)[mask]]
        return Retrieved(np.repeat(index, groups, axis=0), np.repeat(mask, groups, axis=0), place, int(found.sum()))
