import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search.category import GROUP
from tests.store.search.kept import candidates_of, kept, life_of, make

CATEGORIES = st.lists(st.integers(0, 6), max_size=30)


def search(candidates, behaviours, k=3):
    """Categories of the candidates and of the behaviours."""
    life = life_of([9] * len(behaviours), behaviours)
    return make("category", k)(candidates_of([9] * len(candidates), candidates), life, np.zeros((len(life), 1), np.int32))


def slow(candidates, behaviours, k):
    return [[i for i, own in enumerate(behaviours) if own == category >= 2][-k:] for category in candidates]


def test_a_candidate_gets_the_newest_of_its_own_category():
    assert kept(search([2, 3], [2, 3, 2, 2, 3, 2], k=3)) == [[2, 3, 5], [1, 4]]


def test_a_category_without_behaviours_gives_nothing():
    assert kept(search([4, 2], [2, 3, 2])) == [[], [0, 2]]


@pytest.mark.parametrize("category", [0, 1])
def test_a_candidate_without_a_known_category_retrieves_nothing(category):
    assert kept(search([category, 2], [category, 2, category])) == [[], [1]]


def test_the_empty_user_has_one_masked_entry():
    retrieved = search([2, 3], [])
    assert retrieved.index.shape == (2, 1)
    assert kept(retrieved) == [[], []]
    assert retrieved.searched == 0


def test_one_behaviour_is_found_by_its_category_alone():
    assert kept(search([3, 2], [3])) == [[0], []]


def test_a_category_of_fewer_than_k_is_kept_whole():
    assert kept(search([2], [2, 2], k=100)) == [[0, 1]]


def test_k_1_keeps_the_newest():
    assert kept(search([2], [2, 2, 3], k=1)) == [[1]]


def test_four_candidates_of_a_category_share_a_group():
    retrieved = search([2] * 4, [2, 2])
    assert retrieved.index.shape[0] == 1
    assert retrieved.place.tolist() == [0, 1, 2, 3]


def test_a_fifth_candidate_opens_a_second_group_and_the_rest_is_padding():
    retrieved = search([2] * 5, [2, 2])
    assert retrieved.place.reshape(-1, GROUP).tolist() == [[0, 1, 2, 3], [4, -1, -1, -1]]
    assert kept(retrieved) == [[0, 1]] * 5


def test_two_categories_never_share_a_group():
    retrieved = search([2, 3, 2], [2, 3])
    assert retrieved.place.reshape(-1, GROUP).tolist() == [[0, 2, -1, -1], [1, -1, -1, -1]]


def test_the_behaviours_of_each_category_are_counted_once():
    assert search([2, 2, 3, 1], [2, 2, 3, 4, 1]).searched == 3


def test_the_widest_category_sets_the_width():
    assert search([2, 3], [2, 3, 3, 3, 3], k=3).index.shape == (2, 3)


@given(CATEGORIES.filter(len), CATEGORIES, st.integers(1, 6))
def test_each_candidate_gets_what_a_slow_search_gives(candidates, behaviours, k):
    assert kept(search(candidates, behaviours, k)) == slow(candidates, behaviours, k)
