import pytest

from tests.store.search.kept import candidates_of, kept, life_of, make


def search(length, k, candidates=2):
    life = life_of(list(range(2, length + 2)))
    return make("newest", k)(candidates_of([2] * candidates), life, life.cross.astype("int32"))


def test_the_newest_k_are_kept_in_time_order():
    assert kept(search(length=5, k=3)) == [[2, 3, 4], [2, 3, 4]]


@pytest.mark.parametrize("k", [3, 4, 1024])
def test_a_life_no_longer_than_k_is_kept_whole(k):
    assert kept(search(length=3, k=k)) == [[0, 1, 2], [0, 1, 2]]


def test_there_are_always_k_entries_the_padding_behind():
    retrieved = search(length=2, k=4)
    assert (retrieved.index.tolist(), retrieved.mask.tolist()) == ([[0, 1, 0, 0]], [[True, True, False, False]])


def test_the_empty_user_has_masked_entries_only():
    retrieved = search(length=0, k=3)
    assert (retrieved.index.tolist(), retrieved.mask.tolist()) == ([[0, 0, 0]], [[False] * 3])
    assert kept(retrieved) == [[], []]


def test_all_candidates_share_one_list():
    assert search(length=5, k=3, candidates=7).index.shape == (1, 3)


def test_it_counts_what_it_looked_at():
    assert search(length=5, k=3).searched == 3
    assert search(length=0, k=3).searched == 0
