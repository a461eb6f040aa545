import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from store.search import top_k

ROOT = Path(__file__).parents[3]
RELEVANCE = st.floats(-1e6, 1e6, width=32).map(lambda value: round(value, 3) + 0.0)  # + 0.0: no -0.0, it has its own test
TIED = st.sampled_from([-2.0, -1.0, 0.0, 1.0])


@njit
def bits_set(word):
    return top_k.popcount(word)


def nearest(target, signatures, k):
    out = np.full(k, -1, np.int32)
    top_k.nearest(np.uint64(target), np.array(signatures, np.uint64), k, np.empty(len(signatures), np.uint8), out)
    return out.tolist()


def ranked(relevance, k):
    values, out = np.array(relevance, np.float32), np.full(k, -1, np.int32)
    length = len(values)
    top_k.ranked(values, k, np.empty(length, np.int32), np.empty(length, np.uint64), out)
    return out.tolist()


def slow_nearest(target, signatures, k):
    order = sorted(range(len(signatures)), key=lambda i: ((target ^ signatures[i]).bit_count(), -i))
    return sorted(order[:k])


def slow_ranked(relevance, k):
    values = np.array(relevance, np.float32).tolist()
    return sorted(range(len(values)), key=lambda i: (-values[i], -i))[:k]


@given(st.integers(0, 2**64 - 1))
def test_popcount_counts_bits(word):
    assert bits_set(np.uint64(word)) == word.bit_count()


def test_the_nearest_of_a_few_known_signatures():
    assert nearest(0b1111, [0b1111, 0b0000, 0b1110, 0b1000], k=2) == [0, 2]


def test_equal_distances_go_to_the_newer():
    assert nearest(0, [1, 2, 4, 0, 8], k=3) == [2, 3, 4]


def test_when_all_are_equal_the_newest_are_kept():
    assert nearest(0, [5] * 6, k=2) == [4, 5]


def test_the_nearest_come_in_time_order():
    assert nearest(0, [0b111, 0b11, 0b1, 0], k=3) == [1, 2, 3]


@pytest.mark.parametrize("length", [1, 2, 7])
def test_k_of_the_whole_life_keeps_everything(length):
    assert nearest(0, list(range(length)), k=length) == list(range(length))


def test_the_farthest_signature_has_distance_64():
    assert nearest(2**64 - 1, [0, 0, 1], k=2) == [1, 2]


@given(st.data())
def test_nearest_is_the_head_of_a_sorted_list(data):
    word = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 7))
    signatures = data.draw(st.lists(word, min_size=1, max_size=80))
    target, k = data.draw(word), data.draw(st.integers(1, len(signatures)))
    assert nearest(target, signatures, k) == slow_nearest(target, signatures, k)


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
    """In a process of its own, because a wrong bin is a write outside its array."""
    program = f"from numpy import inf; from tests.store.search.test_top_k import ranked; print(ranked({relevance}, 3))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(best)), done.stderr


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
