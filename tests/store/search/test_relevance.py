import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search.bounds import from_ordered, kth, ordered
from store.search.packing import PackedKeys
from store.search.relevance import union_of_heads

ROOT = Path(__file__).parents[3]


def search(query, table, row, bias, k):
    query, table, bias = (np.ascontiguousarray(part, np.float32) for part in (query, table, bias))
    return union_of_heads(query, table, PackedKeys.of(table), np.asarray(row, np.int32), bias.T, k)


def slow_relevance(query, table, row, bias):
    """float32 [C, H, L]: sixteen sums of every sixteenth product, halved, then the bias: the order is part of the answer."""
    key = table[row].astype(np.float32)  # [L, H, d]
    products = query[:, :, None, :] * key.transpose(1, 0, 2)[None]  # [C, H, L, d]
    products = np.pad(products, [(0, 0)] * 3 + [(0, -products.shape[3] % 16)])
    total = products[..., :16]
    for d in range(16, products.shape[3], 16):
        total = total + products[..., d : d + 16]
    while total.shape[3] > 1:
        half = total.shape[3] // 2
        total = total[..., :half] + total[..., half:]
    return total[..., 0] + bias.astype(np.float32)


def slow_search(query, table, row, bias, k):
    """The heads' sorted lists taken in turn until k different behaviours are together."""
    query, table, bias = (np.ascontiguousarray(part, np.float32) for part in (query, table, bias))
    relevances = slow_relevance(query, table, np.asarray(row), bias) + np.float32(0)
    found = []
    newest = -np.arange(relevances.shape[2])
    for of_heads in relevances:
        lists = np.stack([np.lexsort((newest, -of.astype(np.float64))) for of in of_heads], axis=1)  # [L, H]
        found.append(sorted(list(dict.fromkeys(lists.ravel().tolist()))[:k]))
    return found


def made(seed, count, heads, width, items, length, spread=1.0):
    numbers = np.random.default_rng(seed)
    table = numbers.standard_normal((items, heads, width), dtype=np.float32)
    query = numbers.standard_normal((count, heads, width), dtype=np.float32)
    bias = numbers.standard_normal((heads, length), dtype=np.float32) * np.float32(spread)
    return query, table, numbers.integers(0, items, length), bias


@given(st.data())
def test_each_candidate_gets_what_a_slow_search_gives(data):
    """Real numbers, few items: behaviours of one item tie where their bias does."""
    count, heads, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40))
    length, items = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 60))
    given = made(data.draw(st.integers(0, 2**32 - 1)), count, heads, width, items, length, data.draw(st.sampled_from([0, 1])))
    k = data.draw(st.integers(1, length))
    assert search(*given, k).tolist() == slow_search(*given, k)


@pytest.mark.parametrize("length", [31, 32, 33, 1023, 4096, 4097, 20_000])
@pytest.mark.parametrize(("heads", "width"), [(1, 64), (1, 32), (4, 16), (3, 7)])
def test_a_long_life_is_searched_exactly_to_the_last_bit(length, heads, width):
    given = made(length, 9, heads, width, 5000, length)
    for k in (1, min(length - 1, 100)):
        assert search(*given, k).tolist() == slow_search(*given, k)


@pytest.mark.parametrize("items", [1, 3, 60, 700, 5000])
@pytest.mark.parametrize(("heads", "width"), [(1, 64), (1, 20), (4, 16)])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_behaviours_of_repeated_items_are_searched_one_by_one(items, heads, width, spread):
    """A few items hold most of a life; with biases of their own, and without, where all of an item tie."""
    query, table, row, bias = made(items, 40, heads, width, items, 9000, spread)
    row = np.minimum(row, np.random.default_rng(1).integers(0, items, 9000))
    for k in (1, 100, 300):
        assert search(query, table, row, bias, k).tolist() == slow_search(query, table, row, bias, k)


def test_what_one_candidate_gets_does_not_depend_on_the_others():
    query, table, row, bias = made(1, 530, 2, 16, 900, 3000)
    together = search(query, table, row, bias, 50)
    for c in (0, 3, 255, 256, 529):
        assert search(query[c : c + 1], table, row, bias, 50).tolist() == [together[c].tolist()]


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("length", [40, 3000])
def test_when_all_are_equal_the_newest_are_kept(heads, length):
    query, table = np.ones((5, heads, 8)), np.ones((3, heads, 8))
    found = search(query, table, np.ones(length, int), np.zeros((heads, length)), 20)
    assert found.tolist() == [list(range(length - 20, length))] * 5


@pytest.mark.parametrize("tied", [50, 500, 5000])
def test_ties_at_the_limit_go_to_the_newest(tied):
    """Ten are better than `tied` equal ones, which are spread over the life."""
    numbers = np.random.default_rng(tied)
    length = 8000
    places = numbers.permutation(length)
    bias = np.full((1, length), -3.0)
    bias[0, places[: 10 + tied]] = 1.0
    bias[0, places[:10]] = 2.0
    found = search(np.zeros((3, 1, 4)), np.ones((2, 1, 4)), np.zeros(length, int), bias, 30)
    expected = sorted([*places[:10].tolist(), *sorted(places[10 : 10 + tied].tolist())[-20:]])
    assert found.tolist() == [expected] * 3


def test_a_sample_that_sees_only_the_best_is_no_answer():
    """What a sample looks at is far better than the rest, so the first limit leaves too few."""
    query, table, row, bias = made(3, 5, 1, 16, 400, 40_000)
    pairs = np.arange(40_000) // 32
    bias[0, pairs % 16 == 0] += 100
    bias[0, np.flatnonzero(pairs % 16 == 0)[90:]] -= 60
    assert search(query, table, row, bias, 100).tolist() == slow_search(query, table, row, bias, 100)


def test_heads_that_agree_need_longer_lists_than_is_guessed_at_first():
    query, table, row, bias = made(4, 6, 1, 16, 4000, 9000)
    query, table, bias = (np.repeat(part, 4, axis) for part, axis in ((query, 1), (table, 1), (bias, 0)))
    assert search(query, table, row, bias, 100).tolist() == slow_search(query, table, row, bias, 100)


@pytest.mark.parametrize("guess", ["-1e3", "1e3", "np.nan"])
def test_answers_do_not_depend_on_the_limits_that_are_guessed(guess):
    """In a process of its own: the guess is part of what is compiled."""
    program = f"""
import numpy as np
from numba import njit
from store.search import relevance
from tests.store.search import test_relevance as test

@njit
def guess_limits(words, scale, bias, query, start, step, every, place, limit, best, value):
    for c in range(len(limit)):
        limit[c] = {guess}

relevance.guess_limits = guess_limits
relevance.search_heads = njit(_nrt=False)(relevance.search_heads.py_func)
for heads in (1, 2):
    given = test.made(5, 5, heads, 16, 900, 5000)
    assert test.search(*given, 60).tolist() == test.slow_search(*given, 60)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PORTABLE = """
import numpy as np
from tests.store.search import test_relevance as test
print([test.search(*test.made(7, 9, heads, width, 900, 5000), 60).tolist() for heads, width in ((1, 64), (4, 15))])
"""


def test_a_processor_without_these_instructions_gives_the_same_answers(tmp_path):
    """Compiled for such a processor, and run on this one."""
    if os.uname().machine != "x86_64":
        pytest.skip("names of another processor")
    numba = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx2,+fma,+popcnt", "NUMBA_CACHE_DIR": str(tmp_path)}
    answers = [
        subprocess.run([sys.executable, "-c", PORTABLE], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **more})
        for more in ({}, numba)
    ]
    assert [answer.returncode for answer in answers] == [0, 0], answers
    assert answers[0].stdout == answers[1].stdout


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-20, 1e20, 1e30, 1e38])
def test_extreme_numbers_are_searched_like_any_other(scale):
    query, table, row, bias = made(8, 3, 2, 8, 300, 2000)
    with np.errstate(over="ignore"):
        tables = table * np.float32(scale), bias * np.float32(scale)
        given = query * np.float32(min(1, 1e37 / scale)), tables[0], row, tables[1]
        assert search(*given, 40).tolist() == slow_search(*given, 40)


def test_one_large_key_does_not_blur_the_others():
    query, table, row, bias = made(9, 4, 1, 16, 500, 5000)
    table[77] *= 1e6
    assert search(query, table, row, bias, 50).tolist() == slow_search(query, table, row, bias, 50)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e38])
def test_an_infinite_relevance_is_first_or_last(value):
    query, table, row, bias = made(10, 4, 2, 8, 500, 3000)
    bias[:, 5] = value
    assert search(query, table, row, bias, 50).tolist() == slow_search(query, table, row, bias, 50)


def test_minus_zero_and_zero_are_equal_relevances():
    assert ordered(np.float32(-0.0)) == ordered(np.float32(0.0))


@given(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
def test_ordered_keeps_the_order(one, other):
    left, right = ordered(np.float32(one)), ordered(np.float32(other))
    assert (left < right) == (one < other)
    assert from_ordered(left) == one


@given(st.lists(st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 3)), min_size=1, max_size=70), st.data())
def test_kth_is_reached_by_the_k_largest_and_their_equals_alone(values, data):
    k = data.draw(st.integers(1, len(values)))
    room = np.full(len(values) + 16, 2**32 - 1, np.uint32)
    room[: len(values)] = values
    found, last = kth(room, k, len(values), 32), sorted(values, reverse=True)[k - 1]
    assert found <= last
    assert [value for value in values if value >= found] == [value for value in values if value >= last]


def test_threads_search_at_the_same_time_in_memory_of_their_own():
    from concurrent.futures import ThreadPoolExecutor

    given = [made(seed, 40, 2, 16, 900, 3000 + 500 * seed) for seed in range(6)]
    alone = [search(*one, 50).tolist() for one in given]
    with ThreadPoolExecutor(3) as threads:
        assert [found.tolist() for found in threads.map(lambda one: search(*one, 50), given * 3)] == alone * 3
