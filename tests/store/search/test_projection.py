import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search.projection import bias_of
from tests.store.search.kept import candidates_of, kept, life_of, make


def search(query, key, cross_bias, cross, k):
    """query [C, H, d] and key [L, H, d], at rows of their own in the tables; cross [L, 1 + J]."""
    query, key = np.asarray(query, np.float32), np.asarray(key, np.float32)
    count, heads, width = query.shape
    length = len(cross)
    queries = np.zeros((2 + count + length, heads, width), np.float32)
    keys = np.zeros_like(queries)
    queries[2 : 2 + count], keys[2 + count :] = query, key.reshape(length, heads, width)
    candidates, life = candidates_of(range(2, 2 + count)), life_of(range(2 + count, len(keys)))
    tables = {"query_projection": queries, "key_projection": keys, "cross_bias": np.asarray(cross_bias, np.float32)}
    return make("projection", k, **tables)(candidates, life, np.asarray(cross, np.int32).reshape(length, len(cross_bias)))


def slow_relevance(query, key, cross_bias, cross):
    """float64 [C, H, L]: dot products and the biases of every cross feature."""
    bias = sum(np.asarray(cross_bias)[j, np.asarray(cross)[:, j]] for j in range(np.shape(cross)[1]))  # [L, H]
    return np.einsum("chd,lhd->chl", query, key) + np.asarray(bias).T


def slow_union(relevance, k):
    """The heads' sorted lists taken in turn until k different behaviours are together. `relevance` [H, L]."""
    lists = [sorted(range(relevance.shape[1]), key=lambda i, of=of: (-of[i], -i)) for of in relevance]
    taken = []
    for rank in range(relevance.shape[1]):
        for ranking in lists:
            if ranking[rank] not in taken and len(taken) < k:
                taken.append(ranking[rank])
    return sorted(taken)


def heads_search(relevance, k):
    """A search whose relevance is given outright: one candidate, head h of behaviour l has relevance[h][l]."""
    relevance = np.array(relevance, np.float32)  # [H, L]
    heads, length = relevance.shape
    query = np.ones((1, heads, 1))
    return kept(search(query, relevance.T[:, :, None], np.zeros((1, 1, heads)), np.zeros((length, 1)), k))[0]


def test_one_head_keeps_its_most_relevant():
    assert heads_search([[0.5, 3.0, 1.0, 2.0]], k=2) == [1, 3]


def test_equal_relevance_goes_to_the_newer():
    assert heads_search([[1.0, 2.0, 1.0, 1.0]], k=3) == [1, 2, 3]


def test_negative_relevances_are_kept_where_there_is_nothing_better():
    assert heads_search([[-5.0, -1.0, -3.0]], k=2) == [1, 2]


def test_heads_are_taken_in_turn():
    # head 0 ranks 0 1 2 3, head 1 ranks 3 2 1 0: first the best of each, then the second best of head 0
    assert heads_search([[4, 3, 2, 1], [1, 2, 3, 4]], k=3) == [0, 1, 3]


def test_a_behaviour_that_two_heads_rank_high_takes_one_place():
    # both rank 0 first; then 1 (head 0), then 2 (head 1)
    assert heads_search([[9, 5, 1, 0], [9, 1, 5, 0]], k=3) == [0, 1, 2]


def test_a_head_that_agrees_with_the_others_costs_no_place():
    assert heads_search([[4, 3, 2, 1]] * 4, k=3) == [0, 1, 2]


def test_the_bias_alone_can_decide():
    bias = [[[0.0], [5.0], [1.0]]]  # one cross feature, three buckets, one head
    assert kept(search(np.zeros((1, 1, 2)), np.zeros((3, 1, 2)), bias, [[2], [0], [1]], k=2)) == [[0, 2]]


def test_the_biases_of_all_cross_features_are_added():
    bias = np.array([[[1, 10], [2, 20]], [[100, 0], [300, 1000]]], np.float32)  # [1 + J, buckets, H]
    assert bias_of(bias, np.array([[0, 0], [1, 0], [1, 1]], np.int32)).tolist() == [[101, 10], [102, 20], [302, 1020]]


def test_the_bias_table_is_not_written_to():
    bias = np.ones((2, 2, 1), np.float32)
    bias_of(bias, np.zeros((3, 2), np.int32))
    assert (bias == 1).all()


@pytest.mark.parametrize("k", [3, 4, 100])
def test_a_life_no_longer_than_k_is_kept_whole(k):
    assert heads_search([[1, -2, 3], [0, 0, 0]], k=k) == [0, 1, 2]


def test_one_behaviour_is_everyones():
    assert kept(search(-np.ones((2, 2, 3)), np.ones((1, 2, 3)), np.zeros((1, 1, 2)), [[0]], k=5)) == [[0], [0]]


def test_the_empty_user_has_one_masked_entry_a_candidate():
    retrieved = search(np.ones((2, 2, 3)), np.ones((0, 2, 3)), np.zeros((1, 1, 2)), [], k=5)
    assert retrieved.index.shape == (2, 1)
    assert kept(retrieved) == [[], []]
    assert retrieved.searched == 0


def test_the_whole_life_is_searched():
    assert search(np.ones((1, 1, 1)), np.ones((7, 1, 1)), np.zeros((1, 1, 1)), np.zeros((7, 1)), k=2).searched == 7


def test_query_and_key_are_not_mixed_up():
    tables = {
        "query_projection": np.array([[[0]], [[0]], [[1]], [[-1]]], np.float32),
        "key_projection": np.array([[[0]], [[0]], [[5]], [[7]]], np.float32),
        "cross_bias": np.zeros((1, 1, 1), np.float32),
    }
    life = life_of([2, 3])
    retrieved = make("projection", 1, **tables)(candidates_of([2, 3]), life, np.zeros((2, 1), np.int32))
    assert kept(retrieved) == [[1], [0]]  # 1 x (5, 7) and -1 x (5, 7)


@given(st.data())
def test_each_candidate_gets_what_a_slow_search_gives(data):
    """Small integers: the sums are exact in float32, and ties are many."""
    count, heads, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    length, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 50))
    features, buckets = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    query = numbers.integers(-2, 3, (count, heads, width))
    key = numbers.integers(-2, 3, (length, heads, width))
    cross_bias = numbers.integers(-2, 3, (features, buckets, heads))
    cross = numbers.integers(0, buckets, (length, features))
    relevance = slow_relevance(query, key, cross_bias, cross)
    assert kept(search(query, key, cross_bias, cross, k)) == [slow_union(of, k) for of in relevance]


def test_a_long_life_is_searched_exactly():
    numbers = np.random.default_rng(3)
    query, key = numbers.integers(-3, 4, (3, 4, 16)), numbers.integers(-3, 4, (5000, 4, 16))
    cross_bias, cross = numbers.integers(-3, 4, (2, 46, 4)), numbers.integers(0, 46, (5000, 2))
    relevance = slow_relevance(query, key, cross_bias, cross)
    assert kept(search(query, key, cross_bias, cross, k=100)) == [slow_union(of, 100) for of in relevance]


@pytest.mark.parametrize("k", [1, 7, 101])
def test_equal_behaviours_tie_to_the_last_bit_wherever_they_stand(k):
    """Real numbers, where another order of summation would round differently: each behaviour stands there twice,
    an odd number of places apart, so k odd keeps whole pairs and the newer of one more."""
    numbers = np.random.default_rng(5)
    query = numbers.standard_normal((20, 1, 19), dtype=np.float32)
    key = numbers.standard_normal((399, 1, 19), dtype=np.float32)
    bias = numbers.standard_normal((1, 46, 1), dtype=np.float32)
    cross = numbers.integers(0, 46, (399, 1))
    for row in kept(search(query, np.concatenate([key, key]), bias, np.concatenate([cross, cross]), k)):
        older, newer = {i for i in row if i < 399}, {i - 399 for i in row if i >= 399}
        assert older < newer
        assert len(newer) == len(older) + 1
