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
        category = read_only(candidates.category)
        slot, own = WORKSPACE.arrays(("i4", (int(category.max(initial=0)) + 1,)), ("i4", category.shape))
        place = np.full(GROUP * len(category), -1, np.int32)
        groups = deal(category, slot, own, place)
        found, index = np.zeros(groups, np.int32), np.zeros((groups, self.k), np.int32)
        searched = newest_of_each(own[:groups], read_only(behaviours.category), slot, found, index)
        kept = np.minimum(found, self.k)  # [G]
        index = index[:, : max(int(kept.max(initial=0)), 1)]  # [G, K]
        mask = np.arange(index.shape[1]) < kept[:, None]
        return Retrieved(index, mask, place[: GROUP * groups], int(searched))


@njit(cache=True, nogil=True, _nrt=False)
def deal(category: Rows, slot: Rows, own: Rows, place: Rows) -> int:
    """Deal candidates of int32 [C] categories into groups of one category each, in their order; how many groups there are.

    Written: own: int32 [C], the category of each group, ascending; place: int32 [4 C], -1 before, the candidates of each group.
    slot: int32, as long as the largest category and one. Cost: O(C + largest category).
    """
    slot[:] = 0
    for c in range(len(category)):
        slot[category[c]] += 1
    groups = 0
    for one in range(len(slot)):
        first = groups * GROUP
        for _ in range((slot[one] + GROUP - 1) // GROUP):
            own[groups] = one
            groups += 1
        slot[one] = first  # from here on the place of the next candidate
    for c in range(len(category)):
        place[slot[category[c]]] = c
        slot[category[c]] += 1
    return groups


@njit(cache=True, nogil=True, _nrt=False)
def newest_of_each(own: Rows, category: Rows, slot: Rows, found: Rows, index: Rows) -> int:
    """The newest K behaviours of each group's category; how many there are of these categories, counted once.

    Args:
        own: int32 [G], ascending; those that are not known find nothing. category: int32 [L], oldest first.
        slot: int32, as long as the largest of `own` and one. Written, zeros before: found: int32 [G], how many there are,
        index: int32 [G, K], those kept, ascending, from the first place on. Cost: O(L + G x K).
    """
    slot[:] = -1
    for g in range(len(own) - 1, -1, -1):
        if own[g] >= FIRST_KNOWN:
            slot[own[g]] = g  # the first group of this category
    k, searched = index.shape[1], 0
    for i in range(len(category) - 1, -1, -1):
        g = slot[category[i]] if 0 <= category[i] < len(slot) else -1
        if g >= 0:
            if found[g] < k:
                index[g, found[g]] = i
            found[g] += 1
            searched += 1
    for g in range(len(own)):
        if g > 0 and own[g] == own[g - 1]:
            found[g] = found[g - 1]
            for j in range(min(found[g], k)):
                index[g, j] = index[g - 1, j]
        else:
            kept = min(found[g], k)
            for j in range(kept // 2):
                index[g, j], index[g, kept - 1 - j] = index[g, kept - 1 - j], index[g, j]
    return searched
