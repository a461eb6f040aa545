from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.search.distinct import distinct


def grouped(row, pays=1.0):
    """{row: its places}, and the rows in their order."""
    items = distinct(np.array(row, np.int32), pays)
    start = items.start.tolist()
    places = [items.member[first:end].tolist() for first, end in pairwise(start)]
    return items.row.tolist(), places


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200))
def test_each_row_stands_once_with_its_places_in_time_order(row):
    rows, places = grouped(row)
    assert rows == list(dict.fromkeys(row))
    assert places == [[i for i, other in enumerate(row) if other == one] for one in rows]


@pytest.mark.parametrize("rows", [[0, 2**31 - 1, 0], [7] * 70, [-1 + 2**31 - k for k in range(500)] * 2])
def test_rows_of_any_size_are_told_apart(rows):
    assert grouped(rows)[0] == list(dict.fromkeys(rows))


def test_where_nearly_all_differ_each_behaviour_is_by_itself():
    assert grouped([5, 6, 7, 5], pays=0.7) == ([5, 6, 7, 5], [[0], [1], [2], [3]])
    assert grouped([5, 6, 7, 5], pays=0.8) == ([5, 6, 7], [[0, 3], [1], [2]])


@pytest.mark.parametrize(("repeats", "items"), [(4, 5_000), (1, 20_000)])
def test_a_long_life_is_grouped_where_it_repeats_its_items(repeats, items):
    rows, _ = grouped(np.random.default_rng(0).permutation(np.repeat(np.arange(items), repeats)), pays=0.9)
    assert len(rows) == items


def test_the_rows_that_are_given_are_not_written_to():
    row = np.array([3, 3, 2], np.int32)
    distinct(row)
    assert row.tolist() == [3, 3, 2]
