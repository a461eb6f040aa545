import json

import pyarrow.parquet as pq
import pytest

from store import keys
from store.behaviour_tree import BehaviourTree
from store.load import (
    BEHAVIOURS_FILE,
    REGISTRY_FILE,
    SCHEMA_FILE,
    NotPrepared,
    Prepared,
    SchemaMismatch,
    load,
    store_schema,
    stored_schema,
)
from store.load_job import Loaded
from store.registry import RegistryMismatch, StoredRegistry
from tests.store.conftest import ITEMS
from tests.store.events import events_of

# user, row, ts, price bucket; with three rows to a group, `bob` stands in two groups and `eve` in three
EVENTS = [
    ("ann", 2, 10, 1), ("ann", 3, 20, 2),
    ("bob", 5, 5, 0), ("bob", 2, 6, 3), ("bob", 4, 7, 1),
    ("eve", 2, 1, 1), ("eve", 3, 2, 1), ("eve", 4, 3, 1), ("eve", 5, 4, 1), ("eve", 2, 5, 1), ("eve", 3, 6, 1),
    ("用户 {1}", 4, 9, 2),
]  # fmt: skip
CATEGORY = {2: 2, 3: 3, 4: 2, 5: 4}


def lives(events):
    """What the store should hold: each user's behaviours as the tree gives them."""
    users = {}
    for user, row, ts, price in events:
        users.setdefault(user, []).append((row, CATEGORY[row], ts, price))
    return users


def quiet(one):
    pass


@pytest.fixture
def stored_lives(redis, data_name):
    """The lives that the store holds."""
    tree = BehaviourTree(redis, data_name, 1)
    return lambda: {user: events_of(tree.read_life(user).behaviours) for user in tree.users()}


@pytest.fixture
def everything(redis, data_name):
    """Every key of the data set with its value, without the clocks: a tree made again has another."""

    def dump():
        found = {key: redis.hgetall(key) for key in redis.scan_iter(f"{data_name}:*", _type="hash")}
        return {key: {name: value for name, value in of.items() if name != keys.ARRIVED_FIELD} for key, of in found.items()} | {
            key: redis.get(key) for key in redis.scan_iter(f"{data_name}:*", _type="string")
        }

    return dump


# The folder


@pytest.mark.parametrize("row_group", [1, 2, 3, 5, 100])
def test_each_user_comes_once_and_whole_whatever_the_row_groups(prepare, row_group):
    users = list(prepare(EVENTS, row_group).users())
    assert [user for user, _ in users] == ["ann", "bob", "eve", "用户 {1}"]
    assert {user: events_of(behaviours) for user, behaviours in users} == lives(EVENTS)


def test_the_file_of_the_test_has_users_that_go_on_in_the_next_row_group(prepare):
    prepared = prepare(EVENTS, row_group=3)
    groups = pq.ParquetFile(prepared.folder / BEHAVIOURS_FILE)
    users = [set(groups.read_row_group(group)["user_id"].to_pylist()) for group in range(groups.num_row_groups)]
    groups.close()
    assert sum("bob" in group for group in users) == 2
    assert sum("eve" in group for group in users) == 3


def test_one_user_alone_comes_once(prepare):
    assert [user for user, _ in prepare(EVENTS[5:11], row_group=2).users()] == ["eve"]


def test_a_file_without_behaviours_has_no_users(prepare):
    assert list(prepare([]).users()) == []


def test_behaviours_of_a_row_beyond_the_registry_are_of_the_unknown_category(prepare):
    ((_, behaviours),) = prepare([("ann", 99, 10, 1)]).users()
    assert behaviours.category.tolist() == [1]


def test_rows_counts_the_behaviours(prepare):
    assert prepare(EVENTS).rows == len(EVENTS)


@pytest.mark.parametrize("name", [SCHEMA_FILE, REGISTRY_FILE, BEHAVIOURS_FILE])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(prepare, name):
    folder = prepare(EVENTS).folder
    (folder / name).unlink()
    with pytest.raises(NotPrepared, match=name):
        Prepared.open(folder)


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(NotPrepared, match="nowhere"):
        Prepared.open(tmp_path / "nowhere")


def test_a_changed_schema_is_refused(prepare):
    folder = prepare(EVENTS).folder
    content = json.loads((folder / SCHEMA_FILE).read_text())
    content["cross_features"][0]["edges"][0] = 0.5
    (folder / SCHEMA_FILE).write_text(json.dumps(content))
    with pytest.raises(NotPrepared, match="does not match its content"):
        Prepared.open(folder)


def test_a_behaviours_file_that_is_no_parquet_is_refused_by_name(prepare, store_url):
    folder = prepare(EVENTS).folder
    (folder / BEHAVIOURS_FILE).write_bytes(b"not parquet")
    with pytest.raises(NotPrepared, match=BEHAVIOURS_FILE):
        load(Prepared.open(folder), store_url, quiet)


def test_a_behaviours_file_without_a_column_is_refused_by_name(prepare, store_url):
    folder = prepare(EVENTS).folder
    pq.write_table(pq.read_table(folder / BEHAVIOURS_FILE).drop_columns(["price"]), folder / BEHAVIOURS_FILE)
    with pytest.raises(NotPrepared, match=BEHAVIOURS_FILE):
        load(Prepared.open(folder), store_url, quiet)


def test_a_registry_of_another_data_set_is_refused(prepare):
    folder = prepare(EVENTS).folder
    other = prepare(EVENTS, name="other").folder
    (folder / REGISTRY_FILE).write_bytes((other / REGISTRY_FILE).read_bytes())
    with pytest.raises(NotPrepared, match="other"):
        Prepared.open(folder)


# Into the store


def test_a_load_brings_every_life_into_the_store(prepare, stored_lives, store_url):
    load(prepare(EVENTS), store_url, quiet)
    assert stored_lives() == lives(EVENTS)


def test_a_load_brings_the_registry_into_the_store(prepare, redis, data_name, store_url):
    prepared = prepare(EVENTS)
    load(prepared, store_url, quiet)
    stored = StoredRegistry(redis, data_name)
    assert stored.registry_id() == prepared.registry.registry_id
    assert stored.ids_of([2, 3, 4, 5]) == {2: "i2", 3: "i3", 4: "i4", 5: "i5"}


def test_a_load_brings_the_schema_into_the_store(prepare, redis, data_name, store_url):
    prepared = prepare(EVENTS)
    load(prepared, store_url, quiet)
    assert stored_schema(redis, data_name) == prepared.schema


def test_a_load_reports_what_was_written(prepare, store_url):
    reports = []
    load(prepare(EVENTS), store_url, lambda one: reports.append((one.behaviours, one.changed)))
    assert [sum(column) for column in zip(*reports, strict=True)] == [len(EVENTS), len(EVENTS)]


def test_a_data_set_without_behaviours_can_be_loaded(prepare, stored_lives, store_url):
    load(prepare([]), store_url, quiet)
    assert stored_lives() == {}


def test_loading_twice_leaves_the_same_store(prepare, redis, data_name, everything, store_url):
    prepared = prepare(EVENTS)
    load(prepared, store_url, quiet)
    before, dumps = everything(), {key: redis.dump(key) for key in redis.scan_iter(f"{data_name}:*")}
    assert load(prepared, store_url, quiet) == Loaded(len(EVENTS), 0)
    assert everything() == before
    assert {key: redis.dump(key) for key in redis.scan_iter(f"{data_name}:*")} == dumps


def test_the_row_groups_of_the_file_do_not_show_in_the_store(prepare, everything, store_url):
    load(prepare(EVENTS, row_group=2), store_url, quiet)
    before = everything()
    load(prepare(EVENTS, row_group=100), store_url, quiet)
    assert everything() == before


def test_a_load_that_was_cut_off_is_finished_by_the_next(prepare, redis, data_name, everything, stored_lives, store_url):
    prepared = prepare(EVENTS)
    load(prepared, store_url, quiet)
    redis.delete(keys.tree(data_name, "eve"))
    redis.hdel(keys.tree(data_name, "bob"), "2", "n")
    load(prepared, store_url, quiet)
    assert stored_lives() == lives(EVENTS)


def test_a_file_that_is_not_sorted_by_user_loses_nothing(prepare, stored_lives, store_url):
    events = [EVENTS[0], *EVENTS[2:5], EVENTS[1]]
    try:
        load(prepare(events), store_url, quiet)
    except NotPrepared:
        return
    assert stored_lives() == lives(events)


def test_another_schema_is_refused_with_both_versions_and_changes_nothing(prepare, everything, store_url):
    first = prepare(EVENTS)
    load(first, store_url, quiet)
    before = everything()
    second = prepare(EVENTS, price_edges=(1.0, 3.0))
    with pytest.raises(SchemaMismatch, match=rf"{first.schema.version}.*{second.schema.version}"):
        load(second, store_url, quiet)
    assert everything() == before


def test_another_registry_is_refused_and_changes_nothing(prepare, everything, store_url):
    load(prepare(EVENTS), store_url, quiet)
    before = everything()
    with pytest.raises(RegistryMismatch):
        load(prepare(EVENTS, items=[ITEMS[1], ITEMS[0], *ITEMS[2:]]), store_url, quiet)
    assert everything() == before


def test_a_store_without_the_data_set_has_no_schema(redis, data_name):
    assert stored_schema(redis, data_name) is None


def test_a_schema_is_stored_once(prepare, redis, data_name):
    schema = prepare(EVENTS).schema
    store_schema(redis, schema)
    store_schema(redis, schema)
    assert stored_schema(redis, data_name) == schema
