import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from store.types import MAX_TS, Behaviours
from tests.store.events import behaviours_of, events_of

EVENT = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 9), st.integers(0, MAX_TS), st.integers(0, 255))
CLOSE_EVENT = st.tuples(st.integers(2, 4), st.integers(2, 3), st.integers(0, 3), st.integers(0, 255))


def in_order(*events, cross_features=1):
    given_order = behaviours_of(*events, cross_features=cross_features)
    return events_of(Behaviours.in_order(given_order.row, given_order.category, given_order.ts, given_order.cross))


def test_behaviours_are_ordered_by_time():
    assert in_order((2, 2, 30, 0), (3, 2, 10, 0), (4, 2, 20, 0)) == [(3, 2, 10, 0), (4, 2, 20, 0), (2, 2, 30, 0)]


def test_behaviours_of_one_second_are_ordered_by_row():
    assert in_order((9, 2, 10, 0), (3, 2, 10, 0), (5, 2, 10, 0)) == [(3, 2, 10, 0), (5, 2, 10, 0), (9, 2, 10, 0)]


def test_time_comes_before_row_even_for_the_largest_row():
    assert in_order((2**31 - 1, 2, 1, 0), (2, 2, 2, 0)) == [(2**31 - 1, 2, 1, 0), (2, 2, 2, 0)]


def test_the_first_of_equal_behaviours_is_kept():
    assert in_order((2, 2, 10, 7), (2, 2, 10, 8), (2, 3, 10, 9)) == [(2, 2, 10, 7)]


def test_an_item_seen_at_two_times_stays_twice():
    assert len(in_order((2, 2, 10, 0), (2, 2, 11, 0))) == 2


def test_no_behaviours_are_in_order():
    assert in_order() == []


@given(st.lists(st.one_of(EVENT, CLOSE_EVENT), max_size=40))
def test_order_is_that_of_a_sorted_list_of_first_occurrences(events):
    first = {}
    for event in events:
        first.setdefault((event[2], event[0]), event)
    assert in_order(*events) == [first[key] for key in sorted(first)]


@given(st.lists(CLOSE_EVENT, max_size=20))
def test_ordering_twice_changes_nothing(events):
    once = in_order(*events)
    assert in_order(*once) == once


def test_select_keeps_the_four_arrays_together():
    behaviours = behaviours_of((2, 5, 10, 1), (3, 6, 20, 2), (4, 7, 30, 3))
    assert events_of(behaviours.select(np.array([True, False, True]))) == [(2, 5, 10, 1), (4, 7, 30, 3)]
    assert events_of(behaviours.select(slice(-1, None))) == [(4, 7, 30, 3)]
    assert events_of(behaviours.select(np.array([1]))) == [(3, 6, 20, 2)]


def test_the_empty_user_has_arrays_of_the_right_shape():
    empty = Behaviours.empty(3)
    assert len(empty) == 0
    assert (empty.row.dtype, empty.category.dtype, empty.ts.dtype) == (np.int32, np.int32, np.int64)
    assert (empty.cross.shape, empty.cross.dtype) == ((0, 3), np.uint8)
