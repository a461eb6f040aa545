import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from store.search import bits
from store.search import nearest as kernels


@njit
def bits_set(word):
    return bits.popcount(word)


def nearest(target, signatures, k):
    """Each behaviour of an item of its own."""
    return all_nearest([target], signatures, k)[0]


def slow_nearest(target, signatures, k):
    order = sorted(range(len(signatures)), key=lambda i: ((target ^ signatures[i]).bit_count(), -i))
    return sorted(order[:k])


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


def all_nearest(targets, signatures, k, row=None):
    """Behaviours of items `row`; item i has the i-th signature."""
    rows = np.arange(len(signatures)) if row is None else np.asarray(row)
    return kernels.nearest_of_all(
        np.array(targets, np.uint64), np.array(signatures, np.uint64), rows.astype(np.int32), k
    ).tolist()


def drawn(seed, count, bits=64):
    """Signatures of which only some bits differ: the fewer, the more tie."""
    return (np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64) >> np.uint64(64 - bits)).tolist()


@pytest.mark.parametrize("length", [1023, 1024, 1300, 1407, 1408, 2047, 2048, 2049, 10_000])
@pytest.mark.parametrize("bits", [64, 12, 3])
def test_a_sample_changes_no_answer(length, bits):
    """Around what is worth a sample, and around whole blocks and panels; with few bits most distances tie."""
    signatures, targets = drawn(length, length, bits), drawn(1, 6, bits)
    for k in (1, 100):
        assert all_nearest(targets, signatures, k) == [slow_nearest(target, signatures, k) for target in targets]


@pytest.mark.parametrize("items", [1, 40, 900, 1500, 4000])
@pytest.mark.parametrize("bits", [64, 12, 3])
def test_behaviours_of_repeated_items_are_searched_one_by_one(items, bits):
    """A few items hold most of a life, so ties run through it; with more items than are worth a sample, and with fewer."""
    numbers = np.random.default_rng(items)
    row = np.minimum(numbers.integers(0, items, 9000), numbers.integers(0, items, 9000))
    signatures, targets = drawn(items, items, bits), drawn(2, 40, bits)
    life = [signatures[i] for i in row]
    for k in (1, 100, 1024):
        assert all_nearest(targets, signatures, k, row) == [slow_nearest(target, life, k) for target in targets]


@pytest.mark.parametrize("k", [1, 64, 1024])
def test_a_life_of_equal_signatures_keeps_the_newest(k):
    assert all_nearest([5, 2**64 - 1], [5] * 6000, k) == [list(range(6000 - k, 6000))] * 2


def test_a_sample_that_sees_only_the_nearest_is_no_answer():
    """The blocks of the sample hold the target itself 50 times; the other 50 of the answer are far away."""
    signatures = drawn(3, 20_000)
    in_sample = [i for i in range(20_000) if i // 64 % 16 == 0]
    for i in in_sample:
        signatures[i] = 2**64 - 1
    for i in in_sample[::26]:
        signatures[i] = 0
    assert all_nearest([0], signatures, 100) == [slow_nearest(0, signatures, 100)]


def test_a_sample_without_the_nearest_finds_them_too():
    """Everything is near, but what the sample sees: far more reach the limit than there are places."""
    signatures = [2**64 - 1 if i // 64 % 16 == 0 else i % 7 for i in range(20_000)]
    assert all_nearest([0], signatures, 100) == [slow_nearest(0, signatures, 100)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 64), st.integers(0, 2**32 - 1), st.integers(1, 64))
def test_within_marks_those_of_sixty_four(target, limit, seed, bits):
    words = drawn(seed, 70, bits)
    marks = marked(np.array(words, np.uint64), 3, np.uint64(target), np.uint64(limit))
    assert marks == sum(1 << j for j in range(64) if (words[3 + j] ^ target).bit_count() <= limit)


@njit
def marked(words, at, target, limit):
    return bits.within(words, at, target, limit)
