"""Long categories, which are kept in parts: form, reads, appends, and what becomes of parts that are not as they should be."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import keys
from store.append import Appender, Arrived, Caps, UnreadableTree
from store.behaviour_tree import NEWEST, BehaviourTree, encode_tree
from store.checked_values import PART, VERSION, VERSION_WITH_OLDER
from store.codec import decode, encode
from store.registry import Registry
from store.types import Behaviours
from tests.store.events import behaviours_of, events_of

REGISTRY = Registry.build(
    "d", [f"i{i}" for i in range(20)], [f"c{i % 4}" for i in range(20)]
)  # row 2 is of category 2, 3 of 3, ...
NO_CAPS = Caps(per_user=0)
LONG = 5 * PART + 40  # four parts, 168 in the own field


def events(length, category=4, row=4, start=0):
    """So many behaviours of one item, one every ten seconds."""
    return [(row, category, start + 10 * i, i % 251) for i in range(length)]


def in_order(*lives):
    return sorted((event for life in lives for event in life), key=lambda event: (event[2], event[0]))


def arrived(*events):
    return [Arrived("u", row, category, ts, bytes([bucket])) for row, category, ts, bucket in events]


@pytest.fixture
def tree(redis, data_name):
    return BehaviourTree(redis, data_name, 1)


@pytest.fixture
def key(data_name):
    return keys.tree(data_name, "u")


@pytest.fixture
def append(redis, data_name):
    return lambda events, caps=NO_CAPS: Appender(redis, data_name, 1, caps).append(arrived(*events))


def fields(redis, key):
    """The leaves and the newest list."""
    return {name: value for name, value in redis.hgetall(key).items() if name not in (keys.TOTAL_FIELD, keys.ARRIVED_FIELD)}


def encoded(*lives):
    return encode_tree(behaviours_of(*in_order(*lives)))


def damaged(redis, key, field, at=-1):
    """With one byte of a record altered, as no header tells."""
    value = bytearray(redis.hget(key, field))
    value[at] ^= 1
    redis.hset(key, field, bytes(value))


class Watched:
    """A client that notes its reads; `between` is called after the first."""

    def __init__(self, redis, between=lambda: None):
        self._redis, self._between, self.asked = redis, between, []

    def hmget(self, key, fields):
        reply = self._redis.hmget(key, fields)
        self.asked.append(list(fields))
        if len(self.asked) == 1:
            self._between()
        return reply

    def hgetall(self, key):
        self.asked.append("life")
        return self._redis.hgetall(key)


def read(redis, data_name, categories, newest, before=None, recent=50):
    return BehaviourTree(redis, data_name, 1).read(
        "u", "categories", np.array(categories, np.int32), recent, REGISTRY, before, newest
    )


# The form


@pytest.mark.parametrize(("length", "parts"), [(1, 0), (255, 0), (256, 1), (257, 1), (383, 1), (384, 2), (511, 2), (512, 3)])
def test_a_category_is_kept_as_its_length_says(length, parts):
    life = events(length)
    made = encode_tree(behaviours_of(*life))
    names = [b"4.%d" % part for part in range(parts)]
    assert set(made) == {b"4", b"n", *names}
    values = [decode(made[name], 1) for name in [*names, b"4"]]
    assert [len(row) for row, _, _ in values[:-1]] == [PART] * parts
    assert np.concatenate([ts for _, ts, _ in values]).tolist() == [event[2] for event in life]
    assert [made[name][0] for name in names] == [VERSION] * parts
    assert made[b"4"][0] == (VERSION_WITH_OLDER if parts else VERSION)
    if parts:
        assert PART <= len(values[-1][0]) < 2 * PART
        assert int.from_bytes(made[b"4"][8:12], "little") == PART * parts
    else:
        whole = behaviours_of(*life)
        assert made[b"4"] == encode(whole.row, whole.ts, whole.cross)


def test_the_own_field_holds_as_many_as_the_newest_list_may_need():
    assert PART >= NEWEST


def test_a_life_in_parts_comes_back_whole(tree):
    life = in_order(events(LONG), events(300, 3, 3, 5))
    tree.write("u", behaviours_of(*life))
    answer = tree.read_life("u")
    assert (events_of(answer.behaviours), answer.bad_records, answer.whole) == (life, 0, True)
    answer = tree.read_life("u", before=1500)
    assert (events_of(answer.behaviours), answer.bad_records) == ([event for event in life if event[2] < 1500], 0)


# Reads of categories


def test_what_a_search_of_a_hundred_needs_is_one_read_of_own_fields(redis, data_name, tree):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(300, 3, 3, 5))))
    client = Watched(redis)
    answer = read(client, data_name, [3, 4], 100)
    assert client.asked == [[b"3", b"4", b"n"]]
    assert (len(answer.behaviours), answer.older) == (200, LONG + 300 - 200)


@pytest.mark.parametrize(
    ("newest", "parts"), [(168, []), (169, [3]), (296, [3]), (297, [3, 2]), (9999, [3, 2, 1, 0]), (0, [3, 2, 1, 0])]
)
def test_a_search_of_more_reads_the_parts_that_hold_it_together_with_the_own_field(redis, data_name, tree, newest, parts):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(100, 3, 3, 5))))
    client = Watched(redis)
    answer = read(client, data_name, [3, 4], newest)
    assert client.asked[1:] == ([[b"4", *(b"4.%d" % part for part in parts)]] if parts else [])
    assert [event for event in events_of(answer.behaviours) if event[1] == 4] == events(LONG)[-newest:]
    assert len(answer.behaviours) + answer.older == LONG + 100


def test_at_a_time_within_the_own_field_no_part_is_read(redis, data_name, tree):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(100, 3, 3, 5))))
    client = Watched(redis)
    answer = read(client, data_name, [4], 100, before=10 * (LONG - 20), recent=20)
    assert len(client.asked) == 1
    assert [event for event in events_of(answer.behaviours) if event[1] == 4] == events(LONG - 20)[-100:]
    assert answer.older == LONG - 120


lives = st.fixed_dictionaries({category: st.sampled_from([0, 3, 130, 255, 256, 400, 513]) for category in (2, 3, 4)})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(lives, st.sampled_from([0, 1, 100, 128, 129, 300, 1024]), st.none() | st.integers(0, 5200), st.sampled_from([0, 50, 100]))
def test_every_read_of_categories_gives_the_newest_of_each(redis, data_name, tree, lengths, newest, before, recent):
    life = in_order(*(events(length, category, category, category) for category, length in lengths.items()))
    tree.write("u", behaviours_of(*life, cross_features=1))
    answer = read(redis, data_name, [2, 3], newest, before, recent)
    earlier = [event for event in life if before is None or event[2] < before]
    found = events_of(answer.behaviours)
    assert found == in_order(set(found)), "in order, each once"
    assert found[len(found) - min(recent, len(earlier)) :] == earlier[len(earlier) - min(recent, len(earlier)) :]
    if found == earlier and not answer.older:  # the life was read
        return
    of_each = newest and max(newest, NEWEST, recent)
    for category in (2, 3):
        whole = [event for event in earlier if event[1] == category]
        assert [event for event in found if event[1] == category] == whole[-of_each:]
    listed = [event for event in life[-NEWEST:] if event in earlier and event[1] == 4]
    assert [event for event in found if event[1] == 4] == listed
    assert len(found) - len(listed) + answer.older == sum(event[1] in (2, 3) for event in earlier)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(events(PART, start=10 * LONG), id="a part more"),
        pytest.param(events(1, start=10 * LONG), id="one in order"),
        pytest.param(events(1, start=2005), id="one into a part"),
    ],
)
def test_a_category_that_changes_between_two_reads_of_it_is_read_with_the_life(redis, data_name, tree, append, more):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(5, 3, 3))))
    client = Watched(redis, lambda: append(more))
    answer = read(client, data_name, [4], 1024)
    assert client.asked[2:] == ["life"]
    assert events_of(answer.behaviours) == in_order(events(LONG), events(5, 3, 3), more)
    assert (answer.bad_records, answer.older) == (0, 0)


def test_a_category_that_lacks_a_part_is_read_with_the_life_and_said(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hdel(key, "4.2")
    answer = read(redis, data_name, [4], 1024)
    assert events_of(answer.behaviours) == events(LONG)[: 2 * PART] + events(LONG)[3 * PART :]
    assert answer.bad_records == 1
    assert read(redis, data_name, [4], 100).bad_records == 0  # it was not needed


def test_a_part_that_cannot_be_read_is_left_out_and_counted(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    damaged(redis, key, "4.2")
    answer = read(redis, data_name, [4], 1024)
    assert events_of(answer.behaviours) == events(LONG)[: 2 * PART] + events(LONG)[3 * PART :]
    assert answer.bad_records == 1


# Whole lives of which something is missing


def without(*parts):
    """The long category but for some parts; 4 is its own field."""
    return [event for i, event in enumerate(events(LONG)) if min(i // PART, 4) not in parts]


OF_OTHER_LENGTH = encode_tree(behaviours_of(*events(PART - 1)))[b"4"]


@pytest.mark.parametrize(
    ("change", "bad_records", "kept"),
    [
        (lambda redis, key: redis.hdel(key, "4.0"), 1, without(0)),
        (lambda redis, key: redis.hdel(key, "4.3"), 1, without(3)),
        (lambda redis, key: redis.hdel(key, "4.1", "4.2"), 1, without(1, 2)),
        (lambda redis, key: damaged(redis, key, "4.1"), 1, without(1)),
        (lambda redis, key: redis.hset(key, "4.1", b""), 1, without(1)),
        (lambda redis, key: redis.hset(key, "4.0", OF_OTHER_LENGTH), 1, [*events(PART - 1), *without(0)]),
        (lambda redis, key: redis.hset(key, "4.4", redis.hget(key, "4.3")), 1, without()),
        (lambda redis, key: redis.hset(key, "3.0", redis.hget(key, "4.3")), 1, without()),
        (lambda redis, key: redis.hdel(key, "4"), 1, without(4)),
        (lambda redis, key: damaged(redis, key, "4"), 1, without(4)),
        (lambda redis, key: redis.hset(key, "4.x", b"x"), 1, without()),
        (lambda redis, key: (redis.hdel(key, "4.0"), damaged(redis, key, "4.1")), 2, without(0, 1)),
    ],
)
def test_what_can_be_read_of_a_category_is_kept_and_the_rest_counted(redis, tree, key, change, bad_records, kept):
    short = events(20, 3, 3, 5)
    tree.write("u", behaviours_of(*in_order(events(LONG), short)))
    change(redis, key)
    answer = tree.read_life("u")
    assert [event for event in events_of(answer.behaviours) if event[0] == 4] == kept
    assert [event for event in events_of(answer.behaviours) if event[0] == 3] == short
    assert answer.bad_records == bad_records


def test_a_value_of_the_form_before_parts_is_read_by_all(redis, data_name, tree, key):
    old_form(redis, key, tree)
    answer = tree.read_life("u")
    assert (events_of(answer.behaviours), answer.bad_records) == (events(LONG), 0)
    for newest in (1, 200, 0):
        answer = read(redis, data_name, [4], newest)
        assert events_of(answer.behaviours) == events(LONG)[-max(newest, NEWEST) if newest else 0 :]
        assert len(answer.behaviours) + answer.older == LONG
        assert events_of(read(redis, data_name, [4], newest, before=2000).behaviours) == events(200)


def old_form(redis, key, tree, length=LONG):
    """A tree as it was written before there were parts."""
    life = behaviours_of(*events(length))
    tree.write("u", life)
    redis.hdel(key, *(name for name in redis.hkeys(key) if b"." in name))
    redis.hset(key, "4", encode(life.row, life.ts, life.cross))


# Appends


@pytest.mark.parametrize("length", [256, 300, LONG])
@pytest.mark.parametrize("more", [events(1, start=90_000), events(1, start=1005), events(500, start=90_000), events(1, start=5)])
def test_the_first_append_to_a_value_of_the_form_before_parts_deals_it_into_parts(redis, tree, key, append, length, more):
    old_form(redis, key, tree, length)
    assert all(append(more))
    assert fields(redis, key) == encoded(events(length), more)


def test_a_part_is_made_when_two_are_in_the_own_field(redis, key, append):
    for i in range(2 * PART + 1):
        append(events(2 * PART + 1)[i : i + 1])
        assert fields(redis, key) == encoded(events(i + 1))


@pytest.mark.parametrize("ts", [5, 1275, 1280 - 1, 1285, 4 * 1280 - 5, 4 * 1280 + 5, 10 * LONG])
def test_a_behaviour_of_any_time_finds_its_place(redis, tree, key, append, ts):
    tree.write("u", behaviours_of(*events(LONG)))
    late = [(9, 4, ts, 7)]
    assert append(late) == [True]
    assert append(late) == [False]
    assert fields(redis, key) == encoded(events(LONG), late)


def test_a_behaviour_that_stands_in_a_part_is_there_already(redis, tree, key, append):
    tree.write("u", behaviours_of(*events(LONG)))
    before = redis.hgetall(key)
    assert not any(append(events(LONG)))
    assert redis.hgetall(key) == before


def test_an_append_in_order_needs_no_part(redis, tree, key, append):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hdel(key, "4.0", "4.1")
    redis.hset(key, "4.2", b"garbage")
    damaged(redis, key, "4.3")
    parts = {name: redis.hget(key, name) for name in ("4.0", "4.1", "4.2", "4.3")}
    more = events(PART, start=10 * LONG)
    assert all(append(more))
    assert {name: redis.hget(key, name) for name in parts} == parts
    assert fields(redis, key).items() >= {name: encoded(events(LONG), more)[name] for name in (b"4", b"4.4", b"n")}.items()


def test_a_late_append_needs_the_parts_from_its_place_on(redis, tree, key, append):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hset(key, "4.1", b"garbage")
    assert append([(9, 4, 2 * 1280 + 5, 7)]) == [True]
    assert {name: value for name, value in fields(redis, key).items() if name != b"4.1"} == {
        name: value for name, value in encoded(events(LONG), [(9, 4, 2 * 1280 + 5, 7)]).items() if name != b"4.1"
    }


@pytest.mark.parametrize(
    "value", [None, b"", b"\xb1\1\0\0\0\0\0\0", b"x" * 50, encode_tree(behaviours_of(*events(PART - 1)))[b"4"]]
)
@pytest.mark.parametrize("caps", [Caps(per_user=0), Caps(per_category=LONG, per_user=0)], ids=["late", "cap"])
def test_a_part_that_cannot_be_read_refuses_the_append_that_needs_it(redis, tree, key, append, value, caps):
    """With a cap that is reached an append in order needs them all: the oldest goes."""
    tree.write("u", behaviours_of(*in_order(events(LONG), events(3, 3, 3))))
    redis.hdel(key, "4.1") if value is None else redis.hset(key, "4.1", value)
    before = redis.hgetall(key)
    refused = (9, 4, 90_000 if caps.per_category else 5, 7)
    with pytest.raises(UnreadableTree, match=r"field 4\.1 "):
        append([(3, 3, 99_000, 1), refused], caps)
    assert redis.hgetall(key) == before
    assert append([(3, 3, 99_000, 1)], caps) == [True]


def test_a_newest_list_is_made_of_the_own_fields(redis, tree, key, append):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(LONG, 3, 3, 5))))
    redis.hdel(key, "n")
    redis.hset(key, "4.3", b"garbage")
    more = events(1, start=10 * LONG)
    append(more)
    assert redis.hget(key, "n") == encoded(events(LONG), events(LONG, 3, 3, 5), more)[b"n"]


def test_a_user_is_cut_in_parts_too(redis, tree, key, append):
    """Some categories lose parts, some a few records, one all of them."""
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


def test_a_category_with_a_part_that_cannot_be_read_is_not_cut(redis, tree, key, append):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(1200, 3, 3, 5))))
    redis.hset(key, "4.1", b"garbage")
    before = {name: value for name, value in redis.hgetall(key).items() if name.startswith(b"4")}
    append([(3, 3, 80_000, 1)], Caps(per_user=1000))
    assert {name: value for name, value in redis.hgetall(key).items() if name.startswith(b"4")} == before
    assert len([event for event in events_of(tree.read_life("u").behaviours) if event[1] == 3]) == 1000


steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 700), st.integers(0, 300)), min_size=1, max_size=25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(200, 700), steps, st.sampled_from([0, 100, 255, 256, 300, 400, 600]), st.integers(1, 700))
def test_any_stream_leaves_the_bytes_of_a_load(redis, data_name, key, length, steps, cap, a_call):
    """In order and late, double, and more than the cap in one call: leaves, parts, newest list and total."""
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
