import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import store.tree_loader
from store import keys
from store.append import DEFAULT_CAPS, Appender, Arrived, Caps
from store.behaviour_tree import encode_tree
from store.codec import encode
from store.encode_trees import Lives
from store.tree_loader import TreeLoader
from store.types import Behaviours
from tests.store.events import behaviours_of, events_of

CATEGORY = [0, 1, 2, 3, 2, 4, 2, 3, 2, 2]  # of rows 0..9
SMALL = [(2, 2, 10, 1), (3, 3, 20, 2), (9, 2, 20, 3), (2, 2, 30, 4)]
LATE = (5, 4, 99, 9)


@pytest.fixture
def load(redis, data_name):
    """Load {user: behaviours}; whether each user's tree was made or changed."""

    def run(lives, caps=DEFAULT_CAPS):
        users = list(lives)
        rows = [(users.index(user), *event) for user in users for event in lives[user]]
        table = np.array(rows, np.int64).reshape(-1, 5)
        columns = (table[:, 0].copy(), table[:, 1].astype(np.int32), table[:, 2].astype(np.int32), table[:, 3].copy())
        changed = TreeLoader(redis, data_name, 1, caps).load(users, Lives(*columns, table[:, 4:].astype(np.uint8)))
        return dict(zip(users, changed.tolist(), strict=True))

    return run


@pytest.fixture
def fields(redis, data_name):
    """All fields of a user's tree."""
    return lambda user="u": redis.hgetall(keys.tree(data_name, user))


def in_order(*events):
    return sorted(events, key=lambda event: (event[2], event[0]))


def test_users_without_a_tree_get_theirs(load, tree, fields):
    lives = {"u": SMALL, "v": [LATE], "用户 {1}": SMALL[:2]}
    assert load(lives) == dict.fromkeys(lives, True)
    assert {user: events_of(tree.read_life(user).behaviours) for user in lives} == lives
    assert fields().items() >= {**encode_tree(behaviours_of(*SMALL)), b"t": b"4"}.items()


def test_a_user_without_behaviours_gets_no_tree(load, fields):
    assert load({"u": [], "v": SMALL}) == {"u": False, "v": True}
    assert fields() == {}


def test_behaviours_may_come_in_any_order_and_twice(load, fields):
    load({"u": [LATE, *SMALL[::-1], *SMALL]})
    assert fields().items() >= encode_tree(behaviours_of(*SMALL, LATE)).items()


def test_behaviours_join_what_a_tree_holds(load, fields):
    load({"u": SMALL})
    clock = int(fields()[b"a"])
    assert load({"u": [LATE, SMALL[0]]}) == {"u": True}
    assert fields() == {**encode_tree(behaviours_of(*SMALL, LATE)), b"t": b"5", b"a": b"%d" % (clock + 1)}


@pytest.mark.parametrize("again", [SMALL, SMALL[:2], SMALL[3:]])
def test_a_tree_that_has_all_of_them_is_left_alone_with_its_snapshots(load, fields, redis, data_name, again):
    load({"u": SMALL})
    redis.hset(keys.states(data_name, "u"), "sdim", b"a snapshot")
    before = fields()
    assert load({"u": again}) == {"u": False}
    assert fields() == before
    assert redis.exists(keys.states(data_name, "u"))


def test_snapshots_of_a_tree_that_changed_go(load, redis, data_name):
    load({"u": SMALL})
    redis.hset(keys.states(data_name, "u"), "sdim", b"a snapshot")
    load({"u": [LATE]})
    assert not redis.exists(keys.states(data_name, "u"))


LONG = [(2, 2, second, second % 251) for second in range(400)]


def in_own_field(redis, key, life):
    """A tree as it was written before long categories were two values."""
    row, _, ts, cross = np.array(life).T
    redis.hset(key, "2", encode(row.astype(np.int32), ts, cross[:, None].astype(np.uint8)))
    redis.hdel(key, *(field for field in redis.hkeys(key) if b"." in field))


@pytest.mark.parametrize("again", [LONG, LONG[:3], [LATE], [(3, 2, 50, 5)]])
def test_a_load_makes_two_values_of_a_long_one_of_the_form_before(load, fields, redis, data_name, again):
    load({"u": LONG})
    assert {b"2", b"2.older"} < fields().keys()
    in_own_field(redis, keys.tree(data_name, "u"), LONG)
    assert load({"u": again}) == {"u": True}
    assert fields().items() >= encode_tree(behaviours_of(*in_order(*{*LONG, *again}))).items()
    before = fields()
    assert load({"u": again}) == {"u": False}
    assert fields() == before


@pytest.mark.parametrize("change", [
    lambda redis, key: redis.hdel(key, "2.older"), lambda redis, key: redis.hset(key, "2.older", b"garbage"),
    lambda redis, key: redis.hset(key, "3.older", redis.hget(key, "2.older")), lambda redis, key: redis.hdel(key, "2"),
])  # fmt: skip
def test_a_long_category_is_repaired(load, fields, redis, data_name, change):
    load({"u": LONG})
    whole = fields()
    change(redis, keys.tree(data_name, "u"))
    assert load({"u": LONG}) == {"u": True}
    assert {name: value for name, value in fields().items() if name != b"a"} == {
        name: value for name, value in whole.items() if name != b"a"
    }


@pytest.mark.parametrize("field", [b"2", b"n", b"not a category"])
def test_a_value_that_cannot_be_read_is_replaced(load, fields, redis, data_name, field):
    load({"u": SMALL})
    whole = fields()
    redis.hset(keys.tree(data_name, "u"), field, b"\xb1 of an older version")
    assert load({"u": SMALL}) == {"u": True}
    assert fields().keys() == whole.keys()
    assert all(fields()[name] == whole[name] for name in whole if name != b"a")


def test_a_key_that_is_no_tree_is_replaced(load, fields, redis, data_name):
    redis.set(keys.tree(data_name, "v"), "something else")
    assert load({"u": SMALL, "v": SMALL}) == {"u": True, "v": True}
    assert fields("v").items() >= encode_tree(behaviours_of(*SMALL)).items()


@pytest.mark.parametrize("field", [b"2", b"n"])
def test_a_value_that_is_missing_is_made_again(load, fields, redis, data_name, field):
    load({"u": SMALL})
    whole = fields()
    redis.hdel(keys.tree(data_name, "u"), field)
    load({"u": SMALL})
    assert all(fields()[name] == whole[name] for name in whole if name != b"a")


def test_a_tree_is_written_with_a_time_to_live(load, redis, data_name):
    load({"u": SMALL}, Caps(ttl_s=100))
    assert 0 < redis.ttl(keys.tree(data_name, "u")) <= 100


@pytest.mark.parametrize("caps", [Caps(100, 0), Caps(0, 1_000)])
def test_caps_keep_the_newest_and_a_second_load_changes_nothing(load, tree, fields, caps):
    life = [(2, 2, second, second % 256) for second in range(1_200)]
    load({"u": life}, caps)
    kept = caps.per_category or caps.per_user
    assert events_of(tree.read_life("u").behaviours) == life[-kept:]
    assert fields()[b"t"] == b"%d" % kept
    before = fields()
    assert load({"u": life}, caps) == {"u": False}
    assert fields() == before


@pytest.mark.parametrize("caps", [Caps(150, 0), Caps(0, 1_000), Caps(300, 1_000)])
def test_the_batches_do_not_show_in_what_the_caps_leave(load, fields, tree, caps):
    random = np.random.default_rng(2)
    life = [(row, CATEGORY[row], second // 4, 1) for second, row in enumerate(random.integers(2, 10, 1_200).tolist())]
    load({"u": life}, caps)
    whole = {name: value for name, value in fields().items() if name != b"a"}
    tree.delete("u")
    for part in random.permutation(40).tolist():
        load({"u": life[part::40]}, caps)
    before = fields()
    assert {name: value for name, value in before.items() if name != b"a"} == whole
    assert not any(load({"u": life[part::40]}, caps)["u"] for part in range(40))
    assert fields() == before


@pytest.mark.parametrize("caps", [Caps(100, 0), Caps(0, 1_000)])
def test_a_second_load_drops_no_event_that_came_since(load, tree, redis, data_name, caps):
    life = [(2, 2, second, second % 256) for second in range(1_200)]
    load({"u": life}, caps)
    Appender(redis, data_name, 1, caps).append([Arrived("u", 3, 3, 5_000 + i, b"\1") for i in range(3)])
    before = events_of(tree.read_life("u").behaviours)
    assert load({"u": life}, caps) == {"u": False}
    assert events_of(tree.read_life("u").behaviours) == before


@pytest.fixture
def append_after_reading(redis, data_name, monkeypatch):
    """From its call on user u gets this event between every reading of the loader and its writing."""

    def begin(event):
        read = TreeLoader._read

        def read_then_append(self, users):
            lives = read(self, users)
            Appender(redis, data_name, 1).append([Arrived("u", *event[:3], bytes(event[3:]))])
            return lives

        monkeypatch.setattr(TreeLoader, "_read", read_then_append)

    return begin


def test_a_tree_that_changes_between_reading_and_writing_is_read_again(load, tree, append_after_reading):
    load({"u": SMALL})
    append_after_reading(event := (3, 3, 50, 5))
    assert load({"u": [LATE]}) == {"u": True}
    assert events_of(tree.read_life("u").behaviours) == in_order(*SMALL, LATE, event)


def test_a_tree_that_appears_between_reading_and_writing_is_joined(load, tree, append_after_reading):
    append_after_reading(event := (3, 3, 50, 5))
    load({"u": SMALL})
    assert events_of(tree.read_life("u").behaviours) == in_order(*SMALL, event)


def test_events_that_arrive_during_a_load_stay(load, tree, redis, data_name):
    appender, done = Appender(redis, data_name, 1), threading.Event()
    lives = {f"u{i}": [(2, 2, second, 0) for second in range(30)] for i in range(40)}

    def write():
        sent = 0
        while not done.is_set():
            appender.append([Arrived(f"u{sent % 40}", 2, 2, 4_000_000 + sent, b"\1")])
            sent += 1
        return sent

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write)
        for part in range(0, 30, 3):  # each time trees that are being appended to
            load({user: of[part : part + 3] for user, of in lives.items()})
        done.set()
    stored = {user: tree.read_life(user).behaviours for user in lives}
    late = sorted(int(ts) for of in stored.values() for ts in of.ts[of.ts >= 4_000_000])
    assert late == list(range(4_000_000, 4_000_000 + writer.result()))
    assert all(len(of.ts[of.ts < 4_000_000]) == 30 for of in stored.values())


event = st.tuples(st.integers(2, 9), st.integers(0, 6)).map(lambda pair: (pair[0], CATEGORY[pair[0]], pair[1], 7))
run = st.tuples(st.integers(0, 300), st.integers(100, 300)).map(
    lambda drawn: [(2, 2, ts, 7) for ts in range(drawn[0], sum(drawn))]
)  # so that some categories are long
life = st.lists(event, min_size=1, max_size=12) | run
batches = st.lists(st.dictionaries(st.sampled_from("uvw"), life, min_size=1), max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_any_batches_leave_what_one_write_of_all_leaves(load, tree, fields, batches):
    for user in "uvw":
        tree.delete(user)
    held = {"u": set(), "v": set(), "w": set()}
    for batch in batches:
        changed = load(batch)
        for user, events in batch.items():
            assert changed[user] == bool(set(events) - held[user])
            held[user] |= set(events)
    for user, events in held.items():
        life = behaviours_of(*in_order(*events), cross_features=1) if events else Behaviours.empty(1)
        expected = {**encode_tree(life), b"t": b"%d" % len(life)} if events else {}
        assert {name: value for name, value in fields(user).items() if name != b"a"} == expected


def test_users_whose_trees_changed_are_named_to_the_keepers(load, redis, data_name):
    load({"u": SMALL, "v": SMALL})
    assert redis.xlen(keys.states_due(data_name)) == 0  # they had no states yet
    load({"u": [*SMALL, LATE], "v": SMALL})
    assert [entry[b"user_id"] for _, entry in redis.xrange(keys.states_due(data_name))] == [b"u"]


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_trees_are_read_some_at_a_time(load, tree, redis, monkeypatch, at_once):
    """What is in memory is bounded by behaviours, not by users."""
    lives = {f"u{i}": SMALL for i in range(20)}
    load(lives)
    monkeypatch.setattr(store.tree_loader, "READ_AT_ONCE", at_once)
    read = []
    monkeypatch.setattr(
        TreeLoader, "_read", lambda self, users, inner=TreeLoader._read: read.append(len(users)) or inner(self, users)
    )
    assert not any(load(lives).values())
    assert max(read) == max(1, min(at_once // len(SMALL), 20))
    assert sum(read) == 20
