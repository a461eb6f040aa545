"""The search that keeps everything."""

import numpy as np

from store.search import SearchSpec
from store.search.life import LifeSearch
from store.types import Behaviours, Candidates

CANDIDATES = Candidates(np.array([5, 6, 5], np.int32), np.array([2, 3, 2], np.int32))


def search(length):
    rows = np.arange(length, dtype=np.int32)
    life = Behaviours(rows, rows, rows.astype(np.int64), np.zeros((length, 0), np.uint8))
    return LifeSearch(SearchSpec(name="life", k=7), {})(CANDIDATES, life, np.zeros((length, 1), np.int32))


def test_all_behaviours_whatever_k_is_in_time_order_for_all_candidates():
    found = search(2000)
    assert found.index.tolist() == [list(range(2000))]
    assert found.mask.all()
    assert found.place.tolist() == [0, 1, 2]
    assert found.searched == 2000


def test_the_empty_user_has_one_masked_entry():
    found = search(0)
    assert found.index.tolist() == [[0]]
    assert found.mask.tolist() == [[False]]
    assert found.searched == 0
