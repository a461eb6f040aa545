"""Events of the outside: items get rows, features buckets, and a call can be sent again."""

import pytest
from redis.exceptions import ResponseError

from store import keys
from store.append import DEFAULT_CAPS
from store.behaviour_tree import BehaviourTree
from store.events import Event, EventWriter, StoreNotLoaded, Written, stored_writer
from store.load import load
from store.registry import NO_CATEGORY, StoredRegistry
from tests.store.events import events_of

USER = "u1"


@pytest.fixture
def writer(redis, store_url, prepare):
    """Over a loaded store of items i2..i5 (rows 2..5, categories tea milk tea bread); prices are cut at 1 and 2."""
    prepared = prepare([(USER, 2, 100, 1)])
    load(prepared, store_url, lambda _: None)
    return EventWriter(redis, prepared.schema, prepared.registry.registry_id, DEFAULT_CAPS)


@pytest.fixture
def life(redis, data_name):
    def read(user=USER):
        return events_of(BehaviourTree(redis, data_name, 1).read_life(user).behaviours)

    return read


def test_events_join_the_loaded_behaviours_under_rows_and_buckets(writer, life):
    assert writer.write([Event(USER, "i3", 200, features={"price": 1.5}), Event(USER, "i5", 150)]) == Written(2, 0, 0)
    assert life() == [(2, 2, 100, 1), (5, 4, 150, 0), (3, 3, 200, 2)]


def test_a_call_sent_again_changes_nothing(writer, life):
    events = [Event(USER, "i3", 200), Event("u2", "i9", 7, category="new"), Event(USER, "i3", 200)]
    assert writer.write(events) == Written(2, 1, 0)
    before = life()
    assert writer.write(events) == Written(0, 3, 0)
    assert life() == before


def test_a_new_item_gets_the_next_row_and_its_category(writer, life, redis, data_name):
    writer.write([Event(USER, "i9", 200, category="milk"), Event(USER, "i10", 201), Event(USER, "i9", 202, category="tea")])
    assert [event[:3] for event in life()[1:]] == [(6, 3, 200), (7, 5, 201), (6, 3, 202)]
    assert StoredRegistry(redis, data_name).ids_of([6, 7]) == {6: "i9", 7: "i10"}
    assert redis.hget(keys.categories(data_name), NO_CATEGORY) == b"5"


def test_another_category_of_a_known_item_is_counted_and_the_registrys_is_used(writer, life, redis, data_name):
    events = [
        Event(USER, "i3", 200, category="tea"),
        Event(USER, "i4", 201, category="tea"),
        Event(USER, "i5", 202, category="odd"),
    ]
    assert writer.write(events) == Written(3, 0, 2)
    assert [event[1] for event in life()[1:]] == [3, 2, 4]
    assert redis.hget(keys.categories(data_name), "odd") is None


def test_a_tree_that_refuses_costs_its_own_user_only(writer, life, redis, data_name):
    redis.set(keys.tree(data_name, "foreign"), "no hash")
    events = [Event("foreign", "i2", ts, category="milk") for ts in range(2)]
    events[1:1] = [Event(f"v{i}", "i3", 200, category="tea") for i in range(20)] + [Event("v0", "i3", 200)]
    written, faults = writer.write_each(events)
    assert written == Written(20, 1, 20)  # of those that were taken
    assert list(faults) == ["foreign"]
    assert "WRONGTYPE" in str(faults["foreign"])
    assert all(life(f"v{i}") for i in range(20))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        writer.write(events)


@pytest.mark.parametrize("field", ["registry_id", "schema_version"])
def test_a_store_of_another_registry_is_not_written(writer, redis, data_name, life, field):
    redis.hset(keys.registry_meta(data_name), field, "another")
    before = StoredRegistry(redis, data_name).rows()
    with pytest.raises(StoreNotLoaded, match="another"):
        writer.write([Event(USER, "i99", 200)])
    assert StoredRegistry(redis, data_name).rows() == before
    assert len(life()) == 1


def test_an_empty_store_is_not_written(redis, prepare, data_name):
    prepared = prepare([(USER, 2, 100, 1)])
    writer = EventWriter(redis, prepared.schema, prepared.registry.registry_id, DEFAULT_CAPS)
    with pytest.raises(StoreNotLoaded, match="registry none"):
        writer.write([Event(USER, "i2", 200)])
    assert redis.keys(f"{data_name}*") == []


def test_a_writer_by_the_stores_own_schema_writes_the_same(writer, redis, data_name, life):
    own = stored_writer(redis, data_name, DEFAULT_CAPS)
    assert own.features == writer.features == ["price"]
    assert own.write([Event("u2", "i3", 200, features={"price": 1.5})]) == Written(1, 0, 0)
    assert writer.write([Event("u2", "i3", 200, features={"price": 1.5})]) == Written(0, 1, 0)
    assert life("u2") == [(3, 3, 200, 2)]


@pytest.mark.parametrize("missing", [keys.schema, keys.registry_meta])
def test_a_store_without_schema_or_registry_has_no_writer(writer, redis, data_name, missing):
    redis.delete(missing(data_name))
    with pytest.raises(StoreNotLoaded, match=f"python -m store load --data {data_name}"):
        stored_writer(redis, data_name, DEFAULT_CAPS)
