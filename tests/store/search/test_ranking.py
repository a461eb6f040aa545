"""Which of the scored behaviours are kept, and in which order: `leave_best` and `rank`, against a sorted list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search.bounds import ordered
from store.search.ranking import ascending, leave_best, rank

RELEVANCE = st.floats(-1e6, 1e6, width=32).map(lambda value: round(value, 3) + 0.0)  # + 0.0: no -0.0, it has its own test
TIED = st.sampled_from([-2.0, -1.0, 0.0, 1.0])


def ranked(relevance, k):
    """Of behaviours that come in any order."""
    count = len(relevance)
    index, value = np.zeros(count + 16, np.int32), np.zeros(count + 16, np.uint32)
    index[:count] = np.random.default_rng(count).permutation(count)
    value[:count] = [ordered(np.float32(relevance[i])) for i in index[:count]]
    least = leave_best(index, value, count, k, np.empty(count + 16, np.uint32))
    assert (value[:k] >= least).all()
    best, level = np.empty(k, np.int32), np.empty(k, np.uint32)
    rank(index, value, k, best, level)
    assert level.tolist() == [ordered(np.float32(relevance[i])) for i in best]
    return best.tolist()


def slow_ranked(relevance, k):
    values = np.array(relevance, np.float32).tolist()
    return sorted(range(len(values)), key=lambda i: (-values[i], -i))[:k]


def test_the_most_relevant_come_best_first():
    assert ranked([0.5, 3.0, -1.0, 2.0], k=3) == [1, 3, 0]


def test_equal_relevance_goes_to_the_newer():
    assert ranked([1.0, 2.0, 1.0, 2.0, 1.0], k=4) == [3, 1, 4, 2]


def test_negative_relevances_are_in_order_too():
    assert ranked([-3.0, -0.5, -2.0, -1e-30], k=4) == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("relevance", "best"),
    [
        pytest.param([0.0, 1e-45, 0.0], [1, 2, 0], id="the smallest spread"),
        pytest.param([1e-37, 2e-37, 0.0], [1, 0, 2], id="a small spread"),
        pytest.param([2e38, -2e38, 1.0], [0, 2, 1], id="a spread that float32 cannot hold"),
        pytest.param([1.0, float("inf"), float("-inf")], [1, 0, 2], id="an overflow of the sums before"),
    ],
)
def test_an_extreme_spread_of_relevances_is_ranked_like_any_other(relevance, best):
    assert ranked(relevance, 3) == best


def test_minus_zero_and_zero_are_equal_relevances():
    assert ranked([0.0, -0.0], k=1) == [1]


@pytest.mark.parametrize("k", [1, 3, 20, 999, 1000])
@pytest.mark.parametrize("order", [1, -1])
def test_a_long_life_is_ranked_whether_it_ascends_or_descends(k, order):
    relevance = np.arange(1000, dtype=np.float32)[::order]
    assert ranked(relevance, k) == slow_ranked(relevance, k)


@pytest.mark.parametrize("outlier", [1e30, -1e30])
def test_one_outlier_does_not_blur_the_order_of_the_rest(outlier):
    relevance = np.random.default_rng(4).standard_normal(500, dtype=np.float32)
    relevance[77] = outlier
    assert ranked(relevance, 20) == slow_ranked(relevance, 20)


@pytest.mark.parametrize("k", [1, 2, 512, 513, 4000])
def test_close_relevances_are_told_apart(k):
    """Neighbouring float32 numbers, thousands between two bins of any coarse count."""
    relevance = np.random.default_rng(6).permutation(np.arange(4000)).astype(np.uint32) + np.float32(1).view(np.uint32)
    assert ranked(relevance.view(np.float32), k) == slow_ranked(relevance.view(np.float32), k)


def test_a_long_life_of_equal_relevance_keeps_the_newest():
    assert ranked(np.zeros(5000), k=3) == [4999, 4998, 4997]


@given(st.data())
def test_ranked_is_the_head_of_a_sorted_list(data):
    relevance = data.draw(st.lists(data.draw(st.sampled_from([RELEVANCE, TIED])), min_size=1, max_size=150))
    k = data.draw(st.integers(1, len(relevance)))
    assert ranked(relevance, k) == slow_ranked(relevance, k)


@given(st.sets(st.integers(0, 20_000), min_size=1, max_size=60))
def test_places_come_in_time_order_and_leave_no_mark(places):
    marks, given = np.zeros(20_001 // 64 + 20_001 // 4096 + 2, np.uint64), np.array(list(places), np.int32)
    out = np.full(len(places), -1, np.int32)
    ascending(given, len(given), marks, 20_001, out)
    assert out.tolist() == sorted(places)
    assert not marks.any()
