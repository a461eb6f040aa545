import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import keys
from store.append import Appender, Arrived, Caps
from store.behaviour_tree import encode_tree
from store.encode_trees import Lives, encode_trees
from store.types import Behaviours
from tests.store.events import behaviours_of

USERS = 5
CATEGORY = [0, 1, 2, 7, 2, 70_000, 3, 2, 7]  # of rows 0..8


def lives_of(events):
    """Lives from tuples (user, row, ts, bucket, bucket)."""
    table = np.array(events, np.int64).reshape(-1, 5)
    row = table[:, 1].astype(np.int32)
    return Lives(table[:, 0].copy(), row, np.array(CATEGORY, np.int32)[row], table[:, 2].copy(), table[:, 3:].astype(np.uint8))


def life_of(user, events):
    """The same of one user, in order."""
    own = [(row, CATEGORY[row], ts, *cross) for of, row, ts, *cross in events if of == user]
    life = behaviours_of(*own, cross_features=2)
    return Behaviours.in_order(life.row, life.category, life.ts, life.cross)


times = st.one_of(st.integers(0, 9), st.sampled_from([2**31, 2**32 - 1]))
events_of_users = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(2, 8), times, st.integers(0, 255), st.integers(0, 255))
)


@given(events_of_users, st.lists(st.tuples(st.sampled_from([2, 3, 8]), st.integers(250, 520)), max_size=3))
def test_many_trees_have_the_bytes_of_each_alone(events, long):
    """Some of them with long categories."""
    events = [
        *events,
        *((user % USERS, row, 10 + i, i % 256, user) for user, (row, length) in enumerate(long) for i in range(length)),
    ]
    encoded = encode_trees(lives_of(events).in_order(), USERS)
    for user in range(USERS):
        life = life_of(user, events)
        assert encoded.totals[user] == len(life)
        if len(life):
            assert encoded.blobs(user) == encode_tree(life)
            assert dict(zip(*[iter(encoded.flat(user))] * 2, strict=True)) == encode_tree(life)


def test_a_long_life_has_the_bytes_of_itself_alone():
    """More behaviours than the newest list has, and than the count of a header."""
    events = [(i % 2, 2 + i % 7 // 6, i, i % 256, 0) for i in range(140_000)]
    encoded = encode_trees(lives_of(events).in_order(), 2)
    assert [encoded.blobs(user) == encode_tree(life_of(user, events)) for user in range(2)] == [True, True]


def test_categories_too_large_for_one_sort_key_are_put_in_order_all_the_same():
    lives = Lives(
        np.arange(2**17), np.full(2**17, 2, np.int32), np.full(2**17, 2**31 - 1, np.int32),
        np.zeros(2**17, np.int64), np.zeros((2**17, 0), np.uint8),
    )  # fmt: skip
    encoded = encode_trees(lives, 2**17)
    assert set(encoded.fields) == {b"2147483647"}
    assert encoded.ends == list(range(2**17 + 1))


def test_users_without_behaviours_have_no_fields():
    encoded = encode_trees(lives_of([(3, 2, 5, 0, 0)]), USERS)
    assert encoded.ends == [0, 0, 0, 0, 1, 1]
    assert encode_trees(lives_of([]), 2).totals == [0, 0]


def test_lives_that_are_in_order_are_not_copied():
    lives = lives_of([(0, 2, 5, 0, 0), (0, 3, 5, 0, 0), (1, 2, 1, 0, 0)])
    assert lives.in_order() is lives


@pytest.mark.parametrize("caps", [Caps(100, 0), Caps(0, 1_000), Caps(200, 1_000), Caps(300, 1_000)])
@pytest.mark.parametrize("length", [1_300, 1_500])
def test_caps_leave_what_one_append_of_all_leaves_where_no_second_is_shared(redis, data_name, length, caps):
    rows = np.random.default_rng(length).integers(2, 9, length).tolist()
    events = [(0, row, second, second % 251, 0) for second, row in enumerate(rows)]
    encoded = encode_trees(lives_of([*events, (1, 2, 3, 0, 0)]).in_order().capped(caps), 2)
    Appender(redis, data_name, 2, caps).append([Arrived("u", row, CATEGORY[row], ts, bytes(of)) for _, row, ts, *of in events])
    tree = {field: blob for field, blob in redis.hgetall(keys.tree(data_name, "u")).items() if field not in (b"t", b"a")}
    assert encoded.blobs(0) == tree
    assert encoded.totals[0] < length
    assert encoded.totals[1] == 1


def test_the_cap_of_a_user_is_exact_within_a_second_too():
    lives = lives_of([(0, 2 + i % 3, i // 3, 0, 0) for i in range(1_010)]).in_order().capped(Caps(0, 1_000))
    assert list(zip(lives.ts[:2].tolist(), lives.row[:2].tolist(), strict=True)) == [(3, 3), (3, 4)]
    assert len(lives) == 1_000
