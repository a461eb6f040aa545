"""Long categories, which are kept as two values: their form, reads of them, and of such as are not as they should be."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.behaviour_tree import NEWEST, BehaviourTree, encode_tree
from store.checked_values import CHUNK, VERSION, VERSION_WITH_OLDER
from store.codec import decode, encode
from store.registry import Registry
from tests.store.events import behaviours_of, events_of
from tests.store.long_categories import LONG, OLDER, damaged, events, in_order, old_form

ITEMS = range(20)
OF_OTHER_LENGTH = encode_tree(behaviours_of(*events(CHUNK - 1)))[b"4"]
REGISTRY = Registry.build("d", [f"i{i}" for i in ITEMS], [f"c{i % 4}" for i in ITEMS])  # row 2 is of category 2, 3 of 3, ...


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


@pytest.mark.parametrize(
    ("length", "older"), [(1, 0), (255, 0), (256, 128), (257, 128), (383, 128), (384, 256), (511, 256), (512, 384)]
)
def test_a_category_is_kept_as_its_length_says(length, older):
    life = behaviours_of(*events(length))
    made = encode_tree(life)
    assert set(made) == {b"4", b"n", *[b"4.older"] * (older > 0)}
    if not older:
        assert made[b"4"] == encode(life.row, life.ts, life.cross)
        return
    assert CHUNK <= length - older < 2 * CHUNK
    values = [decode(made[name], 1) for name in (b"4.older", b"4")]
    assert [len(row) for row, _, _ in values] == [older, length - older]
    assert np.concatenate([ts for _, ts, _ in values]).tolist() == life.ts.tolist()
    assert (made[b"4.older"][0], made[b"4"][0]) == (VERSION, VERSION_WITH_OLDER)
    assert int.from_bytes(made[b"4"][8:12], "little") == older


def test_the_own_field_holds_as_many_as_the_newest_list_may_need():
    assert CHUNK >= NEWEST


def test_a_life_with_a_long_category_comes_back_whole(tree):
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


@pytest.mark.parametrize(("newest", "older"), [(168, False), (169, True), (9999, True), (0, True)])
def test_a_search_of_more_reads_the_older_ones_together_with_the_own_field(redis, data_name, tree, newest, older):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(100, 3, 3, 5))))
    client = Watched(redis)
    answer = read(client, data_name, [3, 4], newest)
    assert client.asked[1:] == [[b"4", b"4.older"]] * older
    assert [event for event in events_of(answer.behaviours) if event[1] == 4] == events(LONG)[-newest:]
    assert len(answer.behaviours) + answer.older == LONG + 100


def test_at_a_time_within_the_own_field_nothing_older_is_read(redis, data_name, tree):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(100, 3, 3, 5))))
    client = Watched(redis)
    answer = read(client, data_name, [4], 100, before=10 * (LONG - 20), recent=20)
    assert len(client.asked) == 1
    assert [event for event in events_of(answer.behaviours) if event[1] == 4] == events(LONG - 20)[-100:]
    assert answer.older == LONG - 120


def test_at_a_time_before_the_own_field_the_older_ones_are_read(redis, data_name, tree):
    tree.write("u", behaviours_of(*events(LONG)))
    client = Watched(redis)
    answer = read(client, data_name, [4], 100, before=10 * (CHUNK + 20), recent=0)
    assert client.asked[1:] == [[b"4", b"4.older"]]
    assert (events_of(answer.behaviours), answer.older) == (events(CHUNK + 20)[-100:], CHUNK - 80)


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
        pytest.param(events(CHUNK, start=10 * LONG), id="many more"),
        pytest.param(events(1, start=10 * LONG), id="one in order"),
        pytest.param(events(1, start=2005), id="one among the older"),
    ],
)
def test_a_category_that_changes_between_two_reads_of_it_is_read_with_the_life(redis, data_name, tree, append, more):
    tree.write("u", behaviours_of(*in_order(events(LONG), events(5, 3, 3))))
    client = Watched(redis, lambda: append(more))
    answer = read(client, data_name, [4], 1024)
    assert client.asked[2:] == ["life"]
    assert events_of(answer.behaviours) == in_order(events(LONG), events(5, 3, 3), more)
    assert (answer.bad_records, answer.older) == (0, 0)


def test_a_category_that_lacks_its_older_ones_is_read_with_the_life_and_said(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hdel(key, "4.older")
    answer = read(redis, data_name, [4], 1024)
    assert events_of(answer.behaviours) == events(LONG)[OLDER:]
    assert answer.bad_records == 1
    assert read(redis, data_name, [4], 100).bad_records == 0  # it was not needed


def test_older_ones_that_cannot_be_read_are_left_out_and_counted(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    damaged(redis, key, "4.older")
    answer = read(redis, data_name, [4], 1024)
    assert events_of(answer.behaviours) == events(LONG)[OLDER:]
    assert answer.bad_records == 1


def test_older_ones_of_another_number_are_used_and_counted(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hset(key, "4.older", OF_OTHER_LENGTH)
    answer = read(redis, data_name, [4], 1024)
    assert events_of(answer.behaviours) == events(CHUNK - 1) + events(LONG)[OLDER:]
    assert answer.bad_records == 1


def test_a_newest_list_that_says_something_is_before_it_is_none(redis, data_name, tree, key):
    tree.write("u", behaviours_of(*events(LONG)))
    redis.hset(key, "n", redis.hget(key, "4"))
    answer = read(redis, data_name, [4], 100)
    assert (events_of(answer.behaviours), answer.bad_records) == (events(LONG), 1)


# Whole lives of which something is missing


@pytest.mark.parametrize(
    ("change", "bad_records", "kept"),
    [
        (lambda redis, key: redis.hdel(key, "4.older"), 1, events(LONG)[OLDER:]),
        (lambda redis, key: damaged(redis, key, "4.older"), 1, events(LONG)[OLDER:]),
        (lambda redis, key: redis.hset(key, "4.older", b""), 1, events(LONG)[OLDER:]),
        (lambda redis, key: redis.hset(key, "4.older", OF_OTHER_LENGTH), 1, events(CHUNK - 1) + events(LONG)[OLDER:]),
        (lambda redis, key: redis.hset(key, "3.older", redis.hget(key, "4.older")), 1, events(LONG)),
        (
            lambda redis, key: (redis.hset(key, "3.older", redis.hget(key, "4.older")), redis.hdel(key, "4.older")),
            2,
            [*((row, 3, *rest) for row, _, *rest in events(OLDER)), *events(LONG)[OLDER:]],
        ),
        (lambda redis, key: redis.hdel(key, "4"), 1, events(OLDER)),
        (lambda redis, key: damaged(redis, key, "4"), 1, events(OLDER)),
        (lambda redis, key: redis.hset(key, "4.oldest", b"x"), 1, events(LONG)),
        (lambda redis, key: (damaged(redis, key, "4"), damaged(redis, key, "4.older")), 2, []),
        (lambda redis, key: (redis.hset(key, "4.0", b"x"), redis.hdel(key, "4.older")), 2, events(LONG)[OLDER:]),
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


def test_a_long_value_of_the_form_before_is_read_by_all(redis, data_name, tree, key):
    old_form(redis, key, tree)
    answer = tree.read_life("u")
    assert (events_of(answer.behaviours), answer.bad_records) == (events(LONG), 0)
    for newest in (1, 200, 0):
        answer = read(redis, data_name, [4], newest)
        assert events_of(answer.behaviours) == events(LONG)[-max(newest, NEWEST) if newest else 0 :]
        assert len(answer.behaviours) + answer.older == LONG
        assert events_of(read(redis, data_name, [4], newest, before=2000).behaviours) == events(200)
