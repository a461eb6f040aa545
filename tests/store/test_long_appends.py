"""Appends to long categories, which are kept as two values."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.append import Appender, Caps, UnreadableTree
from store.behaviour_tree import encode_tree
from store.checked_values import CHUNK
from store.types import Behaviours
from tests.store.events import behaviours_of, events_of
from tests.store.long_categories import LONG, NO_CAPS, OLDER, arrived, damaged, encoded, events, fields, in_order, old_form


@pytest.mark.parametrize("length", [256, 300, LONG])
@pytest.mark.parametrize("more", [events(1, start=90_000), events(1, start=1005), events(500, start=90_000), events(1, start=5)])
def test_the_first_append_to_a_long_value_of_the_form_before_makes_two_of_it(redis, tree, key, append, length, more):
    old_form(redis, key, tree, length)
    assert all(append(more))
    assert fields(redis, key) == encoded(events(length), more)


def test_the_oldest_leave_the_own_field_when_there_are_twice_as_many(redis, key, append):
    for i in range(2 * CHUNK + 1):
        append(events(2 * CHUNK + 1)[i : i + 1])
        assert fields(redis, key) == encoded(events(i + 1))


@pytest.mark.parametrize("ts", [5, 1275, 1280 - 1, 1285, 4 * 1280 - 5, 4 * 1280 + 5, 10 * LONG])
def test_a_behaviour_of_any_time_finds_its_place(redis, tree, key, append, ts):
    tree.write("u", behaviours_of(*events(LONG)))
    late = [(9, 4, ts, 7)]
    assert append(late) == [True]
    assert append(late) == [False]
    assert fields(redis, key) == encoded(events(LONG), late)


def test_a_behaviour_among_the_older_ones_is_there_already(redis, tree, key, append):
    tree.write("u", behaviours_of(*events(LONG)))
    before = redis.hgetall(key)
    assert not any(append(events(LONG)))
    assert redis.hgetall(key) == before


def test_a_category_that_nothing_is_put_into_is_not_written(redis, tree, key, append):
    old_form(redis, key, tree)
    before = redis.hget(key, "4")
    assert append([events(LONG)[7], (3, 3, 90_000, 0)]) == [False, True]
    assert redis.hget(key, "4") == before


def test_a_late_behaviour_that_the_cap_keeps_is_put_in(redis, tree, key, append):
    """Into the own field, while the category is above its cap: its place is counted from the oldest on."""
    tree.write("u", behaviours_of(*events(600)))
    more = [*events(100, start=6000), (9, 4, 10 * 3 * CHUNK + 5, 7)]
    assert all(append(more, Caps(600, 0)))
    assert fields(redis, key) == encoded(in_order(events(600), more)[-600:])


def test_an_append_in_order_leaves_the_older_ones_alone_until_as_many_are_in_the_own_field(redis, tree, key, append):
    tree.write("u", behaviours_of(*events(LONG)))
    damaged(redis, key, "4.older")
    older, more = redis.hget(key, "4.older"), events(2 * CHUNK - (LONG - OLDER) - 1, start=10 * LONG)
    for event in more:
        append([event])
    assert redis.hget(key, "4.older") == older
    assert redis.hget(key, "4") == encoded(events(LONG), more)[b"4"]


@pytest.mark.parametrize(
    "value", [None, b"", b"\xb1\1\0\0\0\0\0\0", b"x" * 50, encode_tree(behaviours_of(*events(CHUNK - 1)))[b"4"]]
)
@pytest.mark.parametrize(
    ("caps", "refused"),
    [
        pytest.param(NO_CAPS, events(1, start=5), id="late"),
        pytest.param(Caps(per_category=LONG, per_user=0), events(1, start=90_000), id="cap: the oldest goes"),
        pytest.param(NO_CAPS, events(CHUNK, start=90_000), id="too many in the own field"),
    ],
)
def test_older_ones_that_cannot_be_read_refuse_the_append_that_needs_them(redis, tree, key, append, value, caps, refused):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(3, 3, 3))))
    redis.hdel(key, "4.older") if value is None else redis.hset(key, "4.older", value)
    before = redis.hgetall(key)
    with pytest.raises(UnreadableTree, match=r"field 4\.older "):
        append([(3, 3, 99_000, 1), *refused], caps)
    assert redis.hgetall(key) == before
    assert append([(3, 3, 99_000, 1)], caps) == [True]


def test_a_newest_list_is_made_of_the_own_fields(redis, tree, key, append):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(LONG, 3, 3, 5))))
    redis.hdel(key, "n")
    redis.hset(key, "4.older", b"garbage")
    more = events(1, start=10 * LONG)
    append(more)
    assert redis.hget(key, "n") == encoded(events(LONG), events(LONG, 3, 3, 5), more)[b"n"]


def test_a_user_is_cut_in_long_categories_too(redis, tree, key, append):
    """Some categories lose all older ones, some a few, one everything."""
    lives = [events(700), events(300, 3, 3, 3000), events(200, 5, 5, 0), events(150, 2, 2, 1)]
    tree.write("u", behaviours_of(*in_order(*lives)))
    last = [(4, 4, 80_000, 1)]
    assert append(last, Caps(per_user=1000)) == [True]
    kept = in_order(*lives, last)[-1000:]
    assert fields(redis, key) == encoded(kept)
    assert redis.hget(key, "t") == b"1000"
    last = [(4, 4, 90_000, 1), *events(700, start=100_000)]
    assert append(last, Caps(per_user=1000)) == [True] * 701
    assert fields(redis, key) == encoded(in_order(kept, last)[-1000:])


def test_a_category_whose_older_ones_cannot_be_read_is_not_cut(redis, tree, key, append):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(1200, 3, 3, 5))))
    redis.hset(key, "4.older", b"garbage")
    before = {name: value for name, value in redis.hgetall(key).items() if name.startswith(b"4")}
    append([(3, 3, 80_000, 1)], Caps(per_user=1000))
    assert {name: value for name, value in redis.hgetall(key).items() if name.startswith(b"4")} == before
    assert len([event for event in events_of(tree.read_life("u").behaviours) if event[1] == 3]) == 1000


steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 700), st.integers(0, 300)), min_size=1, max_size=25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(200, 700), steps, st.sampled_from([0, 100, 255, 256, 300, 400, 600]), st.integers(1, 700))
def test_any_stream_leaves_the_bytes_of_a_load(redis, data_name, key, length, steps, cap, a_call):
    """In order and late, double, and more than the cap in one call: leaves, older ones, newest list and total."""
    redis.delete(key)
    stream = events(length)
    for late, second, run in steps:
        stream += [(2 + 5 * late, 4, 7 * second, late)]
        stream += events(run, start=stream[-1 - run % len(stream)][2] + 10 * length) if late == 9 else []
    appender = Appender(redis, data_name, 1, Caps(cap, 0))
    for start in range(0, len(stream), a_call):
        appender.append(arrived(*stream[start : start + a_call]))
    drawn = behaviours_of(*stream)
    life = Behaviours.in_order(drawn.row, drawn.category, drawn.ts, drawn.cross).select(slice(-cap if cap else None, None))
    assert fields(redis, key) == encode_tree(life)
    assert redis.hget(key, "t") == b"%d" % len(life)
