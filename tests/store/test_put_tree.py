import time

import pytest

from store import keys
from store.put_tree import ABSENT, ANY, SCRIPT, clock, put_tree


@pytest.fixture
def put(redis, data_name):
    """Write user u's tree; whether the script did."""

    def run(seen=ABSENT, seen_total=b"", total=1, added=1, ttl_s=0, gone=(), flat=(b"2", b"new")):
        return bool(SCRIPT.run(redis, put_tree(data_name, "u", flat, total, added, seen, seen_total, gone, ttl_s)))

    return run


@pytest.fixture
def tree(redis, data_name):
    return lambda: redis.hgetall(keys.tree(data_name, "u"))


def test_a_new_tree_has_its_total_and_a_clock_that_is_ahead_by_it(put, tree):
    before = time.time()
    assert put(total=7_000_000, added=7_000_000)
    written = tree()
    assert written.keys() == {b"2", b"t", b"a"}
    assert written[b"t"] == b"7000000"
    assert before <= int(written[b"a"]) / 1e6 - 7 <= time.time()


def test_a_tree_that_is_there_is_not_written_as_new(put, tree):
    put()
    before = tree()
    assert not put(flat=(b"2", b"other"))
    assert tree() == before


def test_a_tree_as_it_was_seen_gets_fields_and_loses_fields(put, tree):
    put(flat=(b"2", b"two", b"3", b"three"), total=5, added=5)
    seen = tree()
    assert put(clock(seen), b"5", total=9, added=4, gone=(b"2",), flat=(b"4", b"four"))
    assert tree() == {b"3": b"three", b"4": b"four", b"t": b"9", b"a": b"%d" % (int(seen[b"a"]) + 4)}


@pytest.mark.parametrize("field", ["a", "t"])
def test_a_tree_that_changed_since_it_was_seen_is_left_alone(put, tree, redis, data_name, field):
    put(total=5)
    seen = clock(tree())
    redis.hincrby(keys.tree(data_name, "u"), field, 1)
    before = tree()
    assert not put(seen, b"5", flat=(b"2", b"other"))
    assert tree() == before


def test_a_tree_that_was_removed_since_it_was_seen_is_not_made_again(put, tree):
    assert not put(b"=123", b"5")
    assert tree() == {}


def test_a_tree_without_clock_and_total_can_be_seen_too(put, tree, redis, data_name):
    redis.hset(keys.tree(data_name, "u"), "2", "older")
    assert put(clock(tree()), b"", total=3)
    assert tree()[b"2"] == b"new"
    assert int(tree()[b"a"]) > 1e15


@pytest.mark.parametrize("word", [ABSENT, ANY])
def test_a_clock_that_is_one_of_the_scripts_words_is_a_clock(put, tree, redis, data_name, word):
    redis.hset(keys.tree(data_name, "u"), mapping={"2": "older", "3": "three", "a": word})
    assert put(clock(tree()), b"", flat=(b"2", b"new"))
    assert (tree()[b"2"], tree()[b"3"]) == (b"new", b"three")


def test_whatever_is_there_can_be_replaced(put, tree):
    put(flat=(b"2", b"two", b"3", b"three"))
    assert put(ANY)
    assert tree().keys() == {b"2", b"t", b"a"}


def test_snapshots_go_when_the_tree_is_written_and_stay_when_not(put, redis, data_name):
    put()
    redis.hset(keys.states(data_name, "u"), "sdim", b"a snapshot")
    put()
    assert redis.exists(keys.states(data_name, "u"))
    put(ANY)
    assert not redis.exists(keys.states(data_name, "u"))


def test_more_fields_than_lua_can_unpack_are_written_and_removed(put, tree):
    flat = [part for i in range(9_999) for part in (b"%d" % i, b"value")]
    assert put(flat=flat)
    assert len(tree()) == 9_999 + 2
    assert put(clock(tree()), b"1", gone=flat[0:-2:2], flat=())
    assert tree().keys() == {b"9998", b"t", b"a"}


@pytest.mark.parametrize("ttl_s", [0, 100])
def test_a_time_to_live_is_the_trees(put, redis, data_name, ttl_s):
    put(ttl_s=ttl_s)
    left = redis.ttl(keys.tree(data_name, "u"))
    assert left == -1 if ttl_s == 0 else 0 < left <= 100
