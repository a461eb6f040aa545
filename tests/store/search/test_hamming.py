import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.store.search.kept import candidates_of, kept, life_of, make

WORD = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 7))  # small words tie often


def search(targets, behaviours, k):
    """Signatures of the candidates and of the behaviours, at rows of their own in the table."""
    table = np.array([0, 0, *targets, *behaviours], np.uint64)
    candidates = candidates_of(range(2, 2 + len(targets)))
    life = life_of(range(2 + len(targets), len(table)))
    return make("hamming", k, signature=table)(candidates, life, np.zeros((len(life), 1), np.int32))


def slow(targets, behaviours, k):
    """Sort everything by distance, the newer first among equals; the first k, in time order."""
    answer = []
    for target in targets:
        order = sorted(range(len(behaviours)), key=lambda i: ((target ^ behaviours[i]).bit_count(), -i))
        answer.append(sorted(order[:k]))
    return answer


def test_each_candidate_gets_its_own_nearest():
    behaviours = [0b0000, 0b1111, 0b0001, 0b0111]
    assert kept(search([0b0000, 0b1111], behaviours, k=2)) == [[0, 2], [1, 3]]


def test_equal_distances_go_to_the_newer():
    assert kept(search([0], [1, 2, 4, 8], k=3)) == [[1, 2, 3]]


def test_a_nearer_old_behaviour_beats_a_newer_far_one():
    assert kept(search([0], [1, 3, 3, 3], k=1)) == [[0]]


def test_a_life_no_longer_than_k_is_kept_whole():
    assert kept(search([0, 2**64 - 1], [9, 0, 7], k=3)) == [[0, 1, 2]] * 2
    assert kept(search([0, 2**64 - 1], [9, 0, 7], k=100)) == [[0, 1, 2]] * 2


def test_one_behaviour_is_everyones():
    assert kept(search([0, 2**64 - 1], [5], k=3)) == [[0], [0]]


def test_the_empty_user_has_one_masked_entry_a_candidate():
    retrieved = search([3, 4], [], k=3)
    assert retrieved.index.shape == (2, 1)
    assert kept(retrieved) == [[], []]
    assert retrieved.searched == 0


def test_an_item_seen_twice_can_be_kept_twice():
    table = np.array([0, 0, 0b1, 0b11], np.uint64)
    life = life_of([2, 3, 2])
    retrieved = make("hamming", 2, signature=table)(candidates_of([2]), life, np.zeros((3, 1), np.int32))
    assert kept(retrieved) == [[0, 2]]


def test_the_whole_life_is_searched():
    assert search([1], [0] * 7, k=2).searched == 7


def test_each_candidate_has_a_list_of_its_own():
    retrieved = search([1, 2, 3], [0] * 7, k=2)
    assert retrieved.index.shape == (3, 2)
    assert retrieved.place.tolist() == [0, 1, 2]


@given(st.lists(WORD, min_size=1, max_size=6), st.lists(WORD, max_size=60), st.integers(1, 20))
def test_each_candidate_gets_what_a_slow_search_gives(targets, behaviours, k):
    assert kept(search(targets, behaviours, k)) == slow(targets, behaviours, k)


def test_a_life_of_ten_thousand_is_searched_exactly():
    draw = np.random.default_rng(7)
    words = draw.integers(0, 2**64, 10_005, dtype=np.uint64).tolist()
    assert kept(search(words[:5], words[5:], k=100)) == slow(words[:5], words[5:], k=100)
