"""How a test reads the answer of a search: the behaviours each candidate was given."""

import numpy as np

from store.search import SEARCHES, SearchSpec
from store.types import Behaviours, Candidates


def candidates_of(row, category=None):
    """Candidates; category 2 for all where none is given."""
    return Candidates(np.array(row, np.int32), np.array([2] * len(row) if category is None else category, np.int32))


def life_of(row, category=None, cross_features=0):
    """Behaviours one second apart, in the order given; category 2 for all where none is given."""
    rows = np.array(row, np.int32)
    categories = np.array([2] * len(row) if category is None else category, np.int32)
    return Behaviours(rows, categories, np.arange(len(row), dtype=np.int64), np.zeros((len(row), cross_features), np.uint8))


def make(name, k, **tables):
    """The search of that name over the tables."""
    return SEARCHES[name](SearchSpec(name=name, k=k), tables)


def kept(retrieved):
    """The real behaviours of each candidate, as they stand; every rule for `Retrieved` is checked on the way."""
    groups, width = retrieved.index.shape
    assert retrieved.mask.shape == (groups, width)
    assert (retrieved.index.dtype, retrieved.mask.dtype, retrieved.place.dtype) == (np.int32, np.bool_, np.int32)
    assert len(retrieved.place) % groups == 0
    assert (retrieved.index[~retrieved.mask] == 0).all()
    places = len(retrieved.place) // groups
    answer = {}
    for place, candidate in enumerate(retrieved.place.tolist()):
        if candidate == -1:
            continue
        assert candidate not in answer, "a candidate stands at exactly one place"
        group = place // places
        answer[candidate] = retrieved.index[group][retrieved.mask[group]].tolist()
        assert answer[candidate] == sorted(set(answer[candidate])), "ascending, none twice"
    assert sorted(answer) == list(range(len(answer)))
    return [answer[candidate] for candidate in range(len(answer))]
