import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import leaf_order
from store.checked_values import CHUNK, check_values
from store.codec import encode
from store.leaf_order import MOVES, compile_kernels, in_one_order
from store.types import Behaviours
from tests.store.events import behaviours_of, events_of

ANY = np.full(2, 256, np.int32)


def packed(leaf):
    return encode(leaf.row, leaf.ts, leaf.cross)


def leaf_of(category, *events):
    """Behaviours of one category from (row, ts, bucket, bucket) events, as a tree holds them."""
    drawn = behaviours_of(*((row, category, ts, a, b) for row, ts, a, b in events), cross_features=2)
    return Behaviours.in_order(drawn.row, drawn.category, drawn.ts, drawn.cross)


def together(*leaves, **options):
    """The leaves by way of their bytes."""
    category = np.array([leaf.category[0] if len(leaf) else 0 for leaf in leaves], np.int32)
    return in_one_order(check_values([packed(leaf) for leaf in leaves], ANY), 2, category, **options)


EVENT = st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 255), st.integers(0, 255))


@given(st.lists(st.lists(EVENT, max_size=12), max_size=6))
def test_values_are_put_together_as_their_behaviours_would_be(drawn):
    leaves = [leaf_of(category, *events) for category, events in enumerate(drawn)]
    expected = Behaviours.concatenated(Behaviours.empty(2), *leaves)
    assert events_of(together(*leaves)) == events_of(expected)


def test_the_arrays_are_of_the_kinds_that_behaviours_have():
    made, empty = together(leaf_of(3, (2, 10, 7, 8))), Behaviours.empty(2)
    for name in ("row", "category", "ts", "cross"):
        assert getattr(made, name).dtype == getattr(empty, name).dtype
        assert getattr(made, name).ndim == getattr(empty, name).ndim
        assert getattr(together(), name).shape == getattr(empty, name).shape


def test_of_equal_records_the_first_values_is_kept():
    first, second = leaf_of(3, (2, 10, 1, 1), (5, 10, 1, 1)), leaf_of(4, (2, 10, 2, 2), (4, 10, 2, 2))
    assert events_of(together(first, second)) == [(2, 3, 10, 1, 1), (4, 4, 10, 2, 2), (5, 3, 10, 1, 1)]
    assert events_of(together(second, first)) == [(2, 4, 10, 2, 2), (4, 4, 10, 2, 2), (5, 3, 10, 1, 1)]


@pytest.mark.parametrize("length", [1, 2, 5 * MOVES, 700])
def test_any_number_of_one_second_is_in_order_of_rows(length, monkeypatch):
    """Few are moved into place one by one, many are sorted: `length` is on both sides."""
    sorted_too = []
    by_row_too = leaf_order._by_row_too
    monkeypatch.setattr(leaf_order, "_by_row_too", lambda *given: sorted_too.append(1) or by_row_too(*given))
    leaves = [leaf_of(2 + part, *((3 * i + part, 50, part, 0) for i in range(length))) for part in (2, 0, 1)]
    leaves += [leaf_of(9, *((i, ts, 9, 9) for i in range(0, 3 * length, 5) for ts in (49, 50, 51)))]
    assert events_of(together(*leaves)) == events_of(Behaviours.concatenated(*leaves))
    assert bool(sorted_too) == (length >= 5 * MOVES)


def test_late_seconds_and_large_rows_and_any_category_come_through():
    leaves = [leaf_of(2**31 - 1, (2**31 - 1, 2**32 - 1, 255, 0)), leaf_of(-7, (0, 0, 0, 255))]
    assert events_of(together(*leaves)) == [(0, -7, 0, 0, 255), (2**31 - 1, 2**31 - 1, 2**32 - 1, 255, 0)]


def test_the_last_value_may_have_a_category_for_each_record():
    leaves = [leaf_of(3, (2, 20, 0, 0)), leaf_of(0, (7, 10, 0, 0), (8, 30, 0, 0))]
    made = together(*leaves, of_last=np.array([5, 6], np.int32))
    assert [event[:3] for event in events_of(made)] == [(7, 5, 10), (2, 3, 20), (8, 6, 30)]


def test_records_behind_the_longer_header_are_taken_from_their_place():
    leaf = leaf_of(3, (2, 10, 7, 8), (4, 20, 5, 6))
    blob = encode(leaf.row, leaf.ts, leaf.cross, older=CHUNK)
    made = in_one_order(check_values([blob, packed(leaf_of(4, (3, 15, 1, 2)))], ANY), 2, np.array([3, 4], np.int32))
    assert events_of(made) == [(2, 3, 10, 7, 8), (3, 4, 15, 1, 2), (4, 3, 20, 5, 6)]


def test_only_what_is_taken_is_there():
    leaves = [leaf_of(3, *((i, i, 0, 0) for i in range(10))), leaf_of(4, *((20 + i, i, 0, 0) for i in range(3)))]
    values = check_values([packed(leaf) for leaf in leaves], ANY, before=8, newest=4)
    made = in_one_order(values, 2, np.array([3, 4], np.int32))
    assert [event[:2] for event in events_of(made)] == [(20, 4), (21, 4), (22, 4), (4, 3), (5, 3), (6, 3), (7, 3)]


def test_what_is_compiled_at_the_start_is_what_requests_run():
    compile_kernels()
    before = [len(kernel.signatures) for kernel in (leaf_order._number, leaf_order._write)]
    together(leaf_of(3, (2, 20, 0, 0)), leaf_of(0, *((i, 7, 0, 0) for i in range(99))), of_last=np.arange(99, dtype=np.int32))
    together()
    assert [len(kernel.signatures) for kernel in (leaf_order._number, leaf_order._write)] == before == [1, 1]
