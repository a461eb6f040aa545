"""Events into trees: order, each once, caps, and writers side by side."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from store import keys
from store.append import Appender, Arrived, Caps, UnreadableTree
from store.behaviour_tree import NEWEST, BehaviourTree, encode_tree
from store.checked_values import CHUNK
from store.codec import decode, encode
from store.types import Behaviours
from tests.store.events import behaviours_of, events_of

USER = "u{1}"


@pytest.fixture
def appender(redis, data_name):
    return Appender(redis, data_name, 1)


def arrived(row, ts, bucket=0, user=USER):
    """Category: the row's last digit and 2."""
    return Arrived(user, row, row % 10 + 2, ts, bytes([bucket]))


def rebuilt(events):
    """The tree as a load would write it; of events equal in (user, row, ts) the first is kept."""
    rows = [(one.row, one.category, one.ts, *one.cross) for one in events]
    behaviours = behaviours_of(*rows)
    return Behaviours.in_order(behaviours.row, behaviours.category, behaviours.ts, behaviours.cross)


def test_the_first_event_of_a_user_makes_the_tree(appender, tree):
    assert appender.append([arrived(12, 100, 3)]) == [True]
    assert events_of(tree.read_life(USER).behaviours) == [(12, 4, 100, 3)]


def test_an_event_is_put_in_once(appender, tree):
    assert appender.append([arrived(12, 100), arrived(12, 100), arrived(12, 101)]) == [True, False, True]
    assert appender.append([arrived(12, 101)]) == [False]
    assert len(tree.read_life(USER).behaviours) == 2


def test_the_first_of_equal_events_is_kept(appender, tree):
    appender.append([arrived(12, 100, 3)])
    appender.append([arrived(12, 100, 5)])
    assert events_of(tree.read_life(USER).behaviours)[0][-1] == 3


def test_events_of_several_users_are_answered_in_order(appender, tree):
    assert appender.append([arrived(2, 1, user="a"), arrived(2, 1, user="b"), arrived(2, 1, user="a")]) == [True, True, False]
    assert [len(tree.read_life(user).behaviours) for user in "ab"] == [1, 1]


_events = st.lists(
    st.builds(arrived, st.integers(2, 40), st.integers(0, 30) | st.integers(2**32 - 5, 2**32 - 1), st.integers(0, 3)), max_size=60
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(_events, st.lists(st.integers(1, 59), max_size=4))
def test_any_stream_leaves_the_bytes_of_a_rebuild(redis, data_name, events, cuts):
    """Late, double and interleaved: leaf by leaf and the newest list too."""
    redis.delete(keys.tree(data_name, USER))
    appender = Appender(redis, data_name, 1, Caps(per_user=0))
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    new = [put for start, end in pairwise(bounds) for put in appender.append(events[start:end])]
    expected = rebuilt(events)
    assert sum(new) == len(expected)
    stored = redis.hgetall(keys.tree(data_name, USER))
    total, arrived = (int(stored.pop(field, 0)) for field in (keys.TOTAL_FIELD, keys.ARRIVED_FIELD))
    assert stored == (encode_tree(expected) if len(expected) else {})
    assert total == len(expected)
    assert not len(expected) or abs(arrived / 1e6 - time.time()) < 10


def test_the_newest_list_stays_at_its_length(appender, redis, data_name):
    events = [arrived(row % 30 + 2, 1000 + row) for row in range(250)]
    appender.append(events[100:])
    appender.append(events[:100])  # late, all of them
    life = rebuilt(events)
    assert redis.hget(keys.tree(data_name, USER), keys.NEWEST_FIELD) == encode_tree(life)[keys.NEWEST_FIELD]


def test_a_loaded_tree_goes_on(appender, tree):
    loaded = [arrived(row % 7 + 2, 10 * row) for row in range(300)]
    tree.write(USER, rebuilt(loaded))
    late, newest = arrived(3, 55), arrived(3, 10_000)
    assert appender.append([late, newest, loaded[7]]) == [True, True, False]
    assert events_of(tree.read_life(USER).behaviours) == events_of(rebuilt([*loaded, late, newest]))


def test_a_category_is_cut_to_its_newest(redis, data_name, tree):
    appender = Appender(redis, data_name, 1, Caps(per_category=NEWEST))
    appender.append([Arrived(USER, 12, 4, ts, b"\1") for ts in range(NEWEST + 30)])
    appender.append([Arrived(USER, 13, 5, 7, b"\1")])
    life = tree.read_life(USER).behaviours
    assert life.ts[life.category == 4].tolist() == list(range(30, NEWEST + 30))
    assert life.ts[life.category == 5].tolist() == [7]
    before = redis.hgetall(keys.tree(data_name, USER))
    assert appender.append([Arrived(USER, 12, 4, 1, b"\1")]) == [False]  # older than all that is kept
    assert redis.hgetall(keys.tree(data_name, USER)) == before


def test_a_user_is_cut_to_the_newest_of_all_categories(redis, data_name, tree):
    cap = 1000
    appender = Appender(redis, data_name, 1, Caps(per_user=cap))
    events = [arrived(2 + i % 37, i) for i in range(cap + cap // 64 + 1)]
    appender.append(events[:-1])
    assert len(tree.read_life(USER).behaviours) == cap + cap // 64
    appender.append(events[-1:])
    life = tree.read_life(USER)
    assert life.bad_records == 0
    assert events_of(life.behaviours) == events_of(rebuilt(events[-cap:]))
    assert redis.hget(keys.tree(data_name, USER), keys.TOTAL_FIELD) == b"%d" % cap


def test_a_loaded_tree_is_counted_before_it_is_cut(redis, data_name, tree):
    loaded = [arrived(2 + i % 37, i) for i in range(1200)]
    tree.write(USER, rebuilt(loaded))
    Appender(redis, data_name, 1, Caps(per_user=1000)).append([arrived(2, 5000)])
    assert events_of(tree.read_life(USER).behaviours) == events_of(rebuilt([*loaded, arrived(2, 5000)][-1000:]))


@pytest.mark.parametrize("earlier", [0, 300, 1009])
def test_a_second_is_cut_by_row(redis, data_name, tree, earlier):
    """Data of a clock of days has whole lives in one second."""
    appender = Appender(redis, data_name, 1, Caps(per_user=1000))
    events = [*(arrived(2 + i, 10) for i in range(earlier)), *(arrived(2 + i, 20) for i in range(1015 - earlier))]
    for start in range(0, len(events), 254):
        appender.append(events[start : start + 254])
    assert len(tree.read_life(USER).behaviours) == 1015
    appender.append([arrived(5000, 20)])
    life = tree.read_life(USER)
    assert events_of(life.behaviours) == events_of(rebuilt([*events, arrived(5000, 20)]).select(slice(-1000, None)))
    newest = decode(redis.hget(keys.tree(data_name, USER), keys.NEWEST_FIELD), 1)
    assert newest[0].tolist() == life.behaviours.row[-NEWEST:].tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=150), st.integers(1, 60), st.integers(0, 3),
    st.sampled_from([NEWEST, 255, 256, 300, 400]),
)  # fmt: skip
def test_a_category_holds_its_newest_whatever_the_calls(redis, data_name, times, a_call, rows, cap):
    """Late, double, and more than the cap in one call; an event that the cap leaves out is not counted as new."""
    redis.delete(keys.tree(data_name, USER))
    appender = Appender(redis, data_name, 1, Caps(per_category=cap))
    first = [Arrived(USER, 12, 4, 500 + ts, b"\1") for ts in range(cap - 20)]
    events = [*first, *(Arrived(USER, 12 + 10 * (ts % (rows + 1)), 4, 450 + ts, b"\1") for ts in times)]
    for start in range(0, len(events), a_call):
        appender.append(events[start : start + a_call])
    life = BehaviourTree(redis, data_name, 1).read_life(USER)
    assert events_of(life.behaviours) == events_of(rebuilt(events).select(slice(-cap, None)))
    assert (life.bad_records, life.whole) == (0, True)
    before = redis.hgetall(keys.tree(data_name, USER))
    assert not any(appender.append(events))
    assert redis.hgetall(keys.tree(data_name, USER)) == before


@pytest.mark.parametrize("value", [b"", b"x", b"-5000000", b"900000", b"1e400", b"nan", b"9" * 400])
@pytest.mark.parametrize("field", [keys.TOTAL_FIELD, keys.ARRIVED_FIELD])
def test_a_wrong_counter_costs_no_behaviour(redis, data_name, tree, field, value):
    appender = Appender(redis, data_name, 1, Caps(per_user=1000))
    events = [arrived(2 + i % 37, i) for i in range(500)]
    appender.append(events)
    redis.hset(keys.tree(data_name, USER), field, value)
    assert appender.append([arrived(3, 900)]) == [True]
    assert len(tree.read_life(USER).behaviours) == 501
    appender.append([arrived(4, 1000 + i) for i in range(600)])
    assert len(tree.read_life(USER).behaviours) <= 1000 + 1000 // 64  # the cap holds


WITH_OLDER = encode(np.array([12], np.int32), np.array([9999]), np.ones((1, 1), np.uint8), older=CHUNK)


@pytest.mark.parametrize("lost", [b"", b"\xb1\1\0\0\0\0\0\0", b"x" * 50, WITH_OLDER, None])
def test_a_newest_list_that_cannot_be_read_is_made_of_the_leaves(redis, data_name, appender, lost):
    events = [arrived(row % 30 + 2, 1000 + row) for row in range(250)]
    appender.append(events)
    key = keys.tree(data_name, USER)
    redis.hdel(key, "n") if lost is None else redis.hset(key, "n", lost)
    assert appender.append([arrived(3, 2000)]) == [True]
    assert redis.hget(key, "n") == encode_tree(rebuilt([*events, arrived(3, 2000)]))[b"n"]


def test_an_event_that_says_it_is_of_the_future_makes_no_other_late(redis, data_name, appender):
    due = keys.states_due(data_name)
    appender.append([arrived(3, 4_000_000_000)])
    redis.delete(due)
    start = int(time.time()) - 100
    for i in range(20):
        appender.append([arrived(4, start + i)])
    assert redis.xlen(due) <= 1  # as one in 32 is
    appender.append([arrived(5, start - 50)])
    assert redis.xlen(due) >= 1


def test_a_user_does_not_expire_any_more_once_users_do_not(redis, data_name):
    key = keys.tree(data_name, USER)
    Appender(redis, data_name, 1, Caps(ttl_s=100)).append([arrived(3, 1)])
    assert redis.ttl(key) > 0
    Appender(redis, data_name, 1).append([arrived(3, 2)])
    assert redis.ttl(key) == -1


@pytest.mark.parametrize("caps", [{"per_category": 99}, {"per_user": 999}])
def test_caps_below_the_newest_list_are_refused_with_both_numbers(caps):
    with pytest.raises(ValueError, match=r"9\d+, .*10*0"):
        Caps(**caps)


@pytest.mark.parametrize("field", [b"4"])
@pytest.mark.parametrize(
    "value", [
        b"", b"\xb2", b"\xb1\1\0\0\0\0\0\0", b"\xb2\2\0\0\0\0\0\0", b"\xb2\1\1\0\0\0\0\0", b"x" * 50,
        b"\xb3\1\0\0\0\0\0\0", b"\xb3\1\0\0\0\0\0\0" + bytes(4), b"\xb3\1\0\0\0\0\0\0\x81\0\0\0", b"\xb3\1\1\0\0\0\0\0\x80\0\0\0",
    ],
)  # fmt: skip
def test_a_value_of_another_form_is_left_as_it_is(appender, redis, data_name, field, value):
    appender.append([arrived(12, 100), arrived(13, 100)])
    redis.hset(keys.tree(data_name, USER), field, value)
    before = redis.hgetall(keys.tree(data_name, USER))
    with pytest.raises(UnreadableTree, match=f"user {USER}.*field {field.decode()} "):
        appender.append([arrived(13, 101), arrived(12, 101)])
    assert redis.hgetall(keys.tree(data_name, USER)) == before


def test_a_key_of_another_type_is_an_error_of_the_store(appender, redis, data_name):
    redis.set(keys.tree(data_name, USER), "text")
    with pytest.raises(Exception, match="WRONGTYPE"):
        appender.append([arrived(12, 100)])


def test_the_fault_of_a_user_stands_in_the_place_of_their_behaviours(appender, tree, redis, data_name):
    redis.set(keys.tree(data_name, "foreign"), "text")
    redis.hset(keys.tree(data_name, "damaged"), "4", b"garbage")
    events = [arrived(12, 100, user=user) for user in ("a", "foreign", "a", "damaged", "b", "foreign")]
    each = [type(one) if isinstance(one, Exception) else one for one in appender.append_each(events)]
    assert each == [True, ResponseError, False, UnreadableTree, True, ResponseError]
    assert [len(tree.read_life(user).behaviours) for user in ("a", "b")] == [1, 1]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        appender.append(events)


def test_eight_writers_at_once_leave_every_behaviour_once(redis, data_name, tree):
    random = np.random.default_rng(0)
    events = [
        arrived(int(row), int(ts)) for row, ts in zip(random.integers(2, 60, 2000), random.integers(0, 400, 2000), strict=True)
    ]
    shares = [[events[i] for i in random.permutation(len(events))] for _ in range(8)]  # each writer sends all, in its own order

    def write(share):
        appender = Appender(redis, data_name, 1)
        return sum(sum(appender.append(share[start : start + 50])) for start in range(0, len(share), 50))

    with ThreadPoolExecutor(8) as threads:
        new = sum(threads.map(write, shares))
    assert new == len(rebuilt(events))
    assert events_of(tree.read_life(USER).behaviours) == events_of(rebuilt(events))


def test_a_reader_sees_a_call_as_a_whole(redis, data_name, tree):
    appender = Appender(redis, data_name, 1)
    done = False

    def read():
        seen = []
        while not done:
            seen.append(len(tree.read_life(USER).behaviours))
        return seen

    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read)
        for call in range(40):
            appender.append([arrived(2 + i, call) for i in range(25)])
        done = True
    assert set(reader.result()) <= set(range(0, 1001, 25))


def test_a_server_that_lost_the_script_gets_it_again(appender, redis):
    appender.append([arrived(12, 100)])
    redis.script_flush()
    assert appender.append([arrived(12, 101)]) == [True]
