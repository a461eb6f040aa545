"""Hard search (SIM, 3.2): the newest K behaviours of the candidate's own category.

Candidates of one category share one list, so they are dealt into groups of four that attend
together: the [C, K, D] tensor of one list per candidate never exists.
"""

import numpy as np
from numba import njit

from store.search.spec import Search
from store.search.workspace import Workspace, read_only
from store.types import FIRST_KNOWN, Behaviours, Candidates, Retrieved, Rows

WORKSPACE = Workspace()
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

        # the newest of each category, time order kept
        found, index = np.zeros(len(categories), np.int32), np.zeros((len(categories), self.k), np.int32)
        (slot,) = WORKSPACE.arrays(("i4", (int(categories.max(initial=0)) + 1,)))
        newest_of_each(categories, read_only(behaviours.category), slot, found, index)
        kept = np.minimum(found, self.k)  # [Q]
        index = index[:, : max(int(kept.max(initial=0)), 1)]  # [Q, K]
        mask = np.arange(index.shape[1]) < kept[:, None]
        return Retrieved(np.repeat(index, groups, axis=0), np.repeat(mask, groups, axis=0), place, int(found.sum()))


@njit(cache=True, nogil=True, _nrt=False)
def newest_of_each(categories: Rows, category: Rows, slot: Rows, found: Rows, index: Rows) -> None:
    """The newest K behaviours of each category.

    Args:
        categories: int32 [Q], different ones; those that are not known find nothing. category: int32 [L], oldest first.
        slot: int32, as long as the largest of `categories` and one. Written, zeros before: found: int32 [Q], how many there are,
        index: int32 [Q, K], those kept, ascending, from the first place on. Cost: O(L + Q x K).
    """
    slot[:] = -1
    for q in range(len(categories)):
        if categories[q] >= FIRST_KNOWN:
            slot[categories[q]] = q
    k = index.shape[1]
    for i in range(len(category) - 1, -1, -1):
        q = slot[category[i]] if 0 <= category[i] < len(slot) else -1
        if q >= 0:
            if found[q] < k:
                index[q, found[q]] = i
            found[q] += 1
    for q in range(len(categories)):
        kept = min(found[q], k)
        for j in range(kept // 2):
            index[q, j], index[q, kept - 1 - j] = index[q, kept - 1 - j], index[q, j]
