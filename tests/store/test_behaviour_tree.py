import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import behaviour_tree, keys
from store.behaviour_tree import NEWEST, BehaviourTree, encode_tree
from store.codec import decode, encode
from store.registry import Registry
from store.search import SearchSpec
from store.search.category import CategorySearch
from store.types import Behaviours, Candidates
from tests.store.events import behaviours_of, events_of

ITEMS = 300
CATEGORY_OF = [0, 1, *(2 + i % 7 for i in range(ITEMS))]
REGISTRY = Registry.build("d", [f"i{i}" for i in range(ITEMS)], [f"c{i % 7}" for i in range(ITEMS)])
NO_CATEGORIES = np.zeros(0, np.int32)
SMALL = [(2, 2, 10, 1), (3, 3, 20, 2), (9, 2, 20, 3), (2, 2, 30, 4)]  # rows 2 and 9 are of category 2, row 3 of 3


def life(length):
    """A life with one behaviour a second from second 0 on, of items in turn."""
    return [(2 + i % ITEMS, CATEGORY_OF[2 + i % ITEMS], i, i % 251) for i in range(length)]


def read(tree, user_id="u", reads="newest", categories=(), recent=50, before=None, registry=REGISTRY, newest=0):
    return tree.read(user_id, reads, np.array(categories, np.int32), recent, registry, before, newest)


def seen(tree, **arguments):
    return events_of(read(tree, **arguments).behaviours)


def spoil(redis, tree_key, field, blob=b"\xb1\x01 not a record"):
    redis.hset(tree_key, field, blob)


# Writing


def test_a_life_is_one_hash_of_categories_and_the_newest_list(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    assert sorted(redis.hgetall(keys.tree(data_name, "u"))) == [b"2", b"3", b"a", b"n", b"t"]


def test_a_category_holds_its_behaviours_oldest_first():
    row, ts, cross = decode(encode_tree(behaviours_of(*SMALL))[b"2"], 1)
    assert (row.tolist(), ts.tolist(), cross.tolist()) == ([2, 9, 2], [10, 20, 30], [[1], [3], [4]])


def test_the_newest_list_holds_the_last_hundred_in_order():
    row, ts, _ = decode(encode_tree(behaviours_of(*life(250)))[keys.NEWEST_FIELD], 1)
    assert ts.tolist() == list(range(150, 250))
    assert row.tolist() == [event[0] for event in life(250)[-NEWEST:]]


def test_writing_replaces_the_whole_tree(tree):
    tree.write("u", behaviours_of(*SMALL))
    tree.write("u", behaviours_of((5, 5, 99, 9)))
    assert events_of(tree.read_life("u").behaviours) == [(5, 5, 99, 9)]


def test_writing_no_behaviours_removes_the_tree(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    tree.write("u", Behaviours.empty(1))
    assert not redis.exists(keys.tree(data_name, "u"))


def test_writing_counts_the_behaviours_and_starts_the_clock_of_arrivals(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    fields = redis.hgetall(keys.tree(data_name, "u"))
    assert fields[keys.TOTAL_FIELD] == b"4"
    assert abs(int(fields[keys.ARRIVED_FIELD]) / 1e6 - time.time()) < 60


def test_a_tree_of_many_categories_is_one_compact_list(redis, data_name, tree):
    """The embedded server's hash-max-listpack-value is what makes it so."""
    tree.write("u", behaviours_of(*life(2000)))
    assert redis.object("encoding", keys.tree(data_name, "u")) == b"listpack"


# Reading


def test_an_unknown_user_has_no_behaviours(tree):
    for reads in ("newest", "categories", "life"):
        answer = read(tree, user_id="nobody", reads=reads, categories=[2])
        assert (len(answer.behaviours), answer.behaviours.cross.shape, answer.bad_records) == (0, (0, 1), 0)


def test_a_whole_life_comes_back_in_order(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert seen(tree, reads="life") == SMALL


def test_the_newest_list_comes_with_the_categories_of_the_registry(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert seen(tree, reads="newest") == SMALL


def test_a_search_of_the_newest_reads_a_hundred_of_a_long_life(tree):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, reads="newest") == life(250)[-100:]


def test_a_search_of_categories_reads_those_whole_and_the_newest_list_beside_them(tree):
    tree.write("u", behaviours_of(*life(250)))
    expected = [event for event in life(250) if event[1] in (3, 5) or event[2] >= 150]
    assert seen(tree, reads="categories", categories=[5, 3]) == expected


def test_a_behaviour_in_both_its_category_and_the_newest_list_is_there_once(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert seen(tree, reads="categories", categories=[2, 3]) == SMALL


def test_a_category_that_the_user_never_met_adds_nothing(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert seen(tree, reads="categories", categories=[7]) == SMALL


def test_the_whole_life_ignores_the_categories_of_the_request(tree):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, reads="life", categories=[3]) == life(250)


def test_the_newest_of_a_life_are_there_for_a_caller_that_needs_more_than_the_list_holds(tree):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, reads="newest", recent=150)[-150:] == life(250)[-150:]


def test_a_row_beyond_the_snapshot_has_its_own_category_in_a_life_and_the_unknown_one_in_the_newest_list(tree):
    tree.write("u", behaviours_of((2, 2, 10, 0), (ITEMS + 50, 4, 20, 0)))
    assert [event[1] for event in seen(tree, reads="life")] == [2, 4]
    assert [event[1] for event in seen(tree, reads="newest")] == [2, 1]
    assert [event[1] for event in seen(tree, reads="categories", categories=[4])] == [2, 4]


def test_two_data_sets_do_not_see_each_other(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    assert len(read(BehaviourTree(redis, f"{data_name}.b", 1), reads="life").behaviours) == 0


# At a time in the past


def test_before_leaves_out_its_own_second(tree):
    tree.write("u", behaviours_of(*SMALL))
    for reads in ("newest", "categories", "life"):
        assert seen(tree, reads=reads, categories=[2, 3], before=20) == SMALL[:1]
        assert seen(tree, reads=reads, categories=[2, 3], before=21) == SMALL[:3]


def test_before_every_behaviour_is_the_empty_user(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert seen(tree, before=10) == []


@pytest.mark.parametrize("before", [250, 200, 180, 151, 150, 100, 60, 1])
def test_before_cutting_into_the_newest_list_still_gives_the_newest_of_that_time(tree, before):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, before=before)[-50:] == life(250)[:before][-50:]
    assert seen(tree, before=before, reads="categories", categories=[3])[-50:] == life(250)[:before][-50:]


def test_before_cutting_into_the_newest_list_reads_the_whole_life(tree):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, before=199) == life(250)[:199]  # 49 of the list are left, 50 are needed


def test_before_leaving_enough_of_the_newest_list_reads_no_more(tree):
    tree.write("u", behaviours_of(*life(250)))
    assert seen(tree, before=200) == life(250)[150:200]


def test_a_short_life_is_whole_in_the_newest_list_and_is_read_once(redis, tree):
    tree.write("u", behaviours_of(*life(99)))
    calls = redis.info("commandstats").get("cmdstat_hgetall", {}).get("calls", 0)
    assert seen(tree, before=10) == life(99)[:10]
    assert redis.info("commandstats").get("cmdstat_hgetall", {}).get("calls", 0) == calls


EVENTS = st.lists(st.tuples(st.integers(2, 20), st.integers(0, 12), st.integers(0, 255)), max_size=25)


@given(
    EVENTS, st.sampled_from(["newest", "categories", "life"]), st.sets(st.integers(2, 8)), st.integers(0, 5),
    st.none() | st.integers(0, 13),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_read_gives_what_a_slow_filter_of_the_life_gives(monkeypatch, tree, events, reads, categories, recent, before):
    monkeypatch.setattr(behaviour_tree, "NEWEST", 5)
    drawn = behaviours_of(*((row, CATEGORY_OF[row], ts, cross) for row, ts, cross in events), cross_features=1)
    whole = Behaviours.in_order(drawn.row, drawn.category, drawn.ts, drawn.cross)
    tree.write("u", whole)
    expected = [event for event in events_of(whole) if before is None or event[2] < before]
    answer = seen(tree, reads=reads, categories=sorted(categories), recent=recent, before=before)
    assert answer == sorted(set(answer), key=lambda event: (event[2], event[0])), "in order, each once"
    assert set(answer) <= set(expected)
    assert answer[len(answer) - min(recent, len(expected)) :] == expected[len(expected) - min(recent, len(expected)) :]
    if reads == "categories":
        assert [event for event in answer if event[1] in categories] == [event for event in expected if event[1] in categories]
    if reads == "life":
        assert answer == expected


# The newest of each category


def test_of_each_category_the_newest_are_read_and_the_others_counted(tree):
    tree.write("u", behaviours_of(*life(2000)))
    answer = read(tree, reads="categories", categories=[3, 5], newest=120)
    for category in (3, 5):
        whole = [event for event in life(2000) if event[1] == category]
        assert [event for event in events_of(answer.behaviours) if event[1] == category] == whole[-120:]
    assert answer.older == sum(event[1] in (3, 5) for event in life(2000)) - 240


def test_of_a_category_as_many_are_read_as_the_newest_list_may_hold(tree):
    """Or the list would bring some of those that count as left out."""
    tree.write("u", behaviours_of(*((2, 2, ts, 0) for ts in range(250))))
    answer = read(tree, reads="categories", categories=[2], newest=1)
    assert (len(answer.behaviours), answer.older) == (NEWEST, 250 - NEWEST)


def test_nothing_counts_as_left_out_where_the_whole_life_is_read(tree):
    tree.write("u", behaviours_of(*life(2000)))
    assert read(tree, reads="categories", categories=[3], newest=1, before=1920).older == 0


def test_a_category_altered_in_its_oldest_record_is_left_out_whole(redis, data_name, tree):
    tree.write("u", behaviours_of(*life(2000)))
    key = keys.tree(data_name, "u")
    blob = redis.hget(key, "3")
    spoil(redis, key, "3", blob[:8] + bytes([blob[8] ^ 1]) + blob[9:])
    answer = read(tree, reads="categories", categories=[3, 4], newest=1)
    assert (answer.bad_records, answer.older) == (1, sum(event[1] == 4 for event in life(2000)) - NEWEST)
    assert all(ts >= 1900 for _, category, ts, _ in events_of(answer.behaviours) if category == 3), "of the newest list"


def found(read_, candidates, k):
    """What the search by category makes of a read: the behaviours of every candidate, and how many were looked at."""
    search = CategorySearch(SearchSpec(name="category", k=k), {})
    retrieved = search(candidates, read_.behaviours, np.zeros((len(read_.behaviours), 2), np.int32))
    events = events_of(read_.behaviours)
    lists = [[events[i] for i in index[mask]] for index, mask in zip(retrieved.index, retrieved.mask, strict=True)]
    return lists, retrieved.place.tolist(), retrieved.searched + read_.older


@given(
    EVENTS, st.sets(st.integers(1, 9), min_size=1), st.integers(1, 7), st.integers(0, 5), st.none() | st.integers(0, 13),
    st.sampled_from([None, b"2", b"3", b"n"]),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_search_by_category_finds_in_the_newest_what_it_finds_in_whole_categories(
    monkeypatch, redis, data_name, tree, events, categories, k, recent, before, spoiled
):
    monkeypatch.setattr(behaviour_tree, "NEWEST", 3)
    drawn = behaviours_of(*((row, CATEGORY_OF[row], ts, cross) for row, ts, cross in events), cross_features=1)
    tree.write("u", Behaviours.in_order(drawn.row, drawn.category, drawn.ts, drawn.cross))
    if spoiled is not None:
        spoil(redis, keys.tree(data_name, "u"), spoiled)
    category = np.array(sorted(categories) * 2, np.int32)
    asked = sorted(categories - {1})
    candidates = Candidates(np.full(len(category), 2, np.int32), category)
    newest, whole = (
        read(tree, reads="categories", categories=asked, recent=recent, before=before, newest=newest) for newest in (k, 0)
    )
    assert found(newest, candidates, k) == found(whole, candidates, k)
    assert newest.bad_records == whole.bad_records
    assert events_of(newest.behaviours)[-recent:] == events_of(whole.behaviours)[-recent:] or not recent


# Values that cannot be read


def test_a_bad_category_is_counted_and_left_out_while_the_rest_is_served(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    spoil(redis, keys.tree(data_name, "u"), "2")
    answer = tree.read_life("u")
    assert (events_of(answer.behaviours), answer.bad_records) == ([SMALL[1]], 1)


def test_a_bad_category_of_the_request_is_counted_and_the_newest_list_still_serves(redis, data_name, tree):
    tree.write("u", behaviours_of(*life(250)))
    spoil(redis, keys.tree(data_name, "u"), "3")
    answer = read(tree, reads="categories", categories=[3, 4])
    expected = [event for event in life(250) if event[1] == 4 or event[2] >= 150]
    assert (events_of(answer.behaviours), answer.bad_records) == (expected, 1)


def test_a_bad_category_that_is_not_asked_for_is_not_read(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    spoil(redis, keys.tree(data_name, "u"), "2")
    assert read(tree, reads="categories", categories=[3]).bad_records == 0


def test_a_bad_newest_list_is_replaced_by_the_life_and_counted(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    spoil(redis, keys.tree(data_name, "u"), "n")
    answer = read(tree, reads="categories", categories=[2])
    assert (events_of(answer.behaviours), answer.bad_records) == (SMALL, 1)


def test_a_bad_newest_list_does_not_touch_a_whole_life(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    spoil(redis, keys.tree(data_name, "u"), "n")
    assert seen(tree, reads="life") == SMALL


def test_at_a_time_in_the_past_a_bad_newest_list_is_replaced_by_the_life(redis, data_name, tree):
    tree.write("u", behaviours_of(*SMALL))
    spoil(redis, keys.tree(data_name, "u"), "n")
    assert seen(tree, reads="newest", before=30) == SMALL[:3]


def test_a_user_with_bad_values_alone_has_none(redis, data_name, tree):
    for field in ("2", "3"):
        spoil(redis, keys.tree(data_name, "u"), field)
    answer = tree.read_life("u")
    assert (len(answer.behaviours), answer.behaviours.cross.shape, answer.bad_records) == (0, (0, 1), 2)


def test_records_of_another_schema_are_bad_records(redis, data_name, tree):
    BehaviourTree(redis, data_name, 2).write("u", behaviours_of((2, 2, 10, 1, 1)))
    assert tree.read_life("u").bad_records == 1


GOOD_BLOB = encode(np.array([2], np.int32), np.array([10]), np.array([[1]], np.uint8))


@pytest.mark.parametrize("field", [b"x", b"", b"2.", b".5", b"2.x", b"2.5.1", b"02", b"-2", b" 2", b"\xff", b"n2"])
def test_a_field_that_is_no_category_is_a_bad_record(redis, data_name, tree, field):
    spoil(redis, keys.tree(data_name, "u"), field, GOOD_BLOB)
    answer = tree.read_life("u")
    assert (len(answer.behaviours), answer.bad_records) == (0, 1)


def test_a_field_beyond_int32_is_a_bad_record(redis, data_name, tree):
    spoil(redis, keys.tree(data_name, "u"), b"99999999999", GOOD_BLOB)
    assert tree.read_life("u").bad_records == 1


def test_a_row_beyond_int32_is_a_bad_record(redis, data_name, tree):
    spoil(
        redis, keys.tree(data_name, "u"), b"n", encode(np.array([-(2**31)], np.int32), np.array([10]), np.array([[1]], np.uint8))
    )
    assert read(tree).bad_records == 1


# All users


def test_a_deleted_user_is_unknown(tree):
    tree.write("u", behaviours_of(*SMALL))
    assert tree.delete("u")
    assert len(tree.read_life("u").behaviours) == 0
    assert not tree.delete("u")


def test_deleting_a_user_leaves_the_others(tree):
    for user in ("u", "u2", "{u}"):
        tree.write(user, behaviours_of(*SMALL))
    tree.delete("u")
    assert sorted(tree.users()) == ["u2", "{u}"]


@pytest.mark.parametrize("user", ["{u}", "}", "%7B", "a b", "用户", "*", "tree:", "x" * 128])
def test_a_user_of_any_name_is_listed_read_and_deleted(tree, user):
    tree.write(user, behaviours_of(*SMALL))
    assert list(tree.users()) == [user]
    assert seen(tree, user_id=user) == SMALL
    assert tree.delete(user)


def test_users_of_another_data_set_are_not_listed(redis, data_name, tree):
    BehaviourTree(redis, f"{data_name}.b", 1).write("u", behaviours_of(*SMALL))
    assert list(tree.users()) == []
