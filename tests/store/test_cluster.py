"""Against a real cluster of three servers: what one server does, and slots that move under load."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from redis.crc import key_slot
from redis.exceptions import TryAgainError

from store import keys
from store.append import Appender, Arrived, Caps
from store.behaviour_tree import BehaviourTree, encode_tree
from store.connection import connect, servers
from store.encode_trees import Lives
from store.load import store_schema
from store.load_snapshots import COLUMNS, load_snapshots
from store.registry import Registry, RegistryMismatch, StoredRegistry
from store.schema import CrossFeature, Schema, stored_schema
from store.scripts import Call, Script
from store.snapshot import Snapshot, SnapshotCodec
from store.states import UserStates
from store.tree_loader import TreeLoader
from store.types import Behaviours
from tests.store.cluster import Cluster
from tests.store.events import behaviours_of, events_of
from tests.store.servers import KINDS, NO_REDIS


@pytest.fixture(scope="module", params=KINDS)
def cluster(request, tmp_path_factory):
    """Three masters; no test kills one of them."""
    if KINDS[request.param] is None:
        pytest.skip(NO_REDIS)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), KINDS[request.param])
    yield cluster
    cluster.close()


@pytest.fixture
def redis(cluster):
    """A client of the cluster."""
    client = connect(cluster.url, timeout_s=5)
    yield client
    client.close()


def arrived(user, row, ts):
    return Arrived(user, row, row % 3 + 2, ts, b"\1")


def rebuilt(events):
    rows = behaviours_of(*[(one.row, one.category, one.ts, *one.cross) for one in events])
    return Behaviours.in_order(rows.row, rows.category, rows.ts, rows.cross)


def users_in(slot, count):
    """Ids whose keys all lie in one slot."""
    found, number = [], 0
    while len(found) < count:
        if key_slot(b"u%d" % number) == slot:
            found.append(f"u{number}")
        number += 1
    return found


# what one server does


def test_the_registry_gives_rows_and_knows_its_descent(redis, data_name):
    registry = Registry.build(data_name, ["a", "b"], ["tea", "milk"])
    stored = StoredRegistry(redis, data_name)
    stored.load(registry)
    stored.load(registry)
    assert [column.tolist() for column in stored.register(["b", "new", "a"], ["milk", "tea", "tea"])] == [[3, 4, 2], [3, 2, 2]]
    assert (stored.rows(), stored.ids_of([4, 9])) == (5, {4: "new"})
    with pytest.raises(RegistryMismatch):
        stored.load(Registry.build(data_name, ["b"], ["milk"]))


def test_a_schema_is_stored_once(redis, data_name):
    schema = Schema(data=data_name, cross_features=[], context=[])
    store_schema(redis, schema)
    store_schema(redis, schema)
    assert stored_schema(redis, data_name).version == schema.version


def test_trees_are_written_read_listed_and_deleted(redis, data_name):
    tree = BehaviourTree(redis, data_name, 1)
    for user in range(40):
        tree.write(f"u{{{user}}}", behaviours_of((2, 2, user, 1)))
    tree.write("u{7}", behaviours_of((2, 2, 5, 1), (3, 4, 6, 1)))
    assert events_of(tree.read_life("u{7}").behaviours) == [(2, 2, 5, 1), (3, 4, 6, 1)]
    assert sorted(tree.users()) == sorted(f"u{{{user}}}" for user in range(40))
    assert [tree.delete("u{7}"), tree.delete("u{7}")] == [True, False]
    assert len(list(tree.users())) == 39


def test_one_call_appends_to_users_of_all_nodes_each_event_once(redis, cluster, data_name):
    events = [arrived(f"u{user}", 2 + i, 10 * i) for i in range(3) for user in range(200)]
    appender = Appender(redis, data_name, 1)
    for i in range(3):
        cluster.node(i).config_resetstat()
    assert appender.append(events) == [True] * 600
    assert appender.append(events) == [False] * 600
    tree = BehaviourTree(redis, data_name, 1)
    assert events_of(tree.read_life("u150").behaviours) == [(2, 4, 0, 1), (3, 2, 10, 1), (4, 3, 20, 1)]
    asked = [cluster.node(i).info("commandstats") for i in range(3)]
    assert all("cmdstat_evalsha" in stats for stats in asked)
    assert not any("cmdstat_command|getkeys" in stats for stats in asked), "the client asks a server for every key"


def test_a_node_that_lost_the_scripts_gets_them_again(redis, cluster, data_name):
    appender = Appender(redis, data_name, 1)
    appender.append([arrived(f"u{user}", 2, 1) for user in range(20)])
    cluster.node(1).script_flush()
    assert appender.append([arrived(f"u{user}", 2, 2) for user in range(20)]) == [True] * 20


def test_snapshots_are_loaded_and_read_with_the_newest_list(redis, data_name, tmp_path):
    store_schema(redis, Schema(data=data_name, cross_features=[CrossFeature(name="price", edges=[1.0])], context=[]))
    users, life = [f"u{user}" for user in range(50)], behaviours_of((2, 2, 5, 1), (3, 3, 6, 1))
    tree, registry = BehaviourTree(redis, data_name, 1), Registry.build(data_name, ["a", "b"], ["tea", "milk"])
    codec = SnapshotCodec("0" * 16, {"sum": np.zeros((1, 3), np.float32)}, 1)
    for user in users:
        tree.write(user, life)
    snapshot = codec.encode(Snapshot.of(life, state={"sum": np.full((1, 3), 7, np.float32)}))
    schema = pa.schema([(COLUMNS[0], pa.string()), (COLUMNS[1], pa.binary())])
    stated = {"model": "sdim", "data": data_name, "snapshot_id": codec.snapshot_id}
    table = pa.table([users, [snapshot] * 50], schema=schema).replace_schema_metadata(stated)
    pq.write_table(table, tmp_path / "snapshots.parquet")
    written = []
    assert load_snapshots(tmp_path / "snapshots.parquet", data_name, redis, lambda *of: written.append(of)) == "sdim"
    assert written == [(50, 0)]
    states = UserStates(redis, data_name, tree, codec, registry)
    reads = [states.read(user, recent=0) for user in users]
    assert {(read.how, read.tail, float(read.snapshot.state["sum"].sum())) for read in reads} == {("tail", 0, 21.0)}


def test_trees_are_loaded_beside_those_that_are_there(redis, cluster, data_name):
    users = [f"u{user}" for user in range(300)]
    row, category, ts = (np.tile(column, 300) for column in np.array([[2, 3], [2, 3], [5, 6]]))
    user = np.repeat(np.arange(300), 2)
    lives = Lives(user, row.astype(np.int32), category.astype(np.int32), ts, np.ones((600, 1), np.uint8))
    Appender(redis, data_name, 1).append([arrived("u7", 9, 4)])
    loader = TreeLoader(redis, data_name, 1, Caps())
    assert loader.load(users, lives).all()
    assert not loader.load(users, lives).any()
    tree = BehaviourTree(redis, data_name, 1)
    assert [len(tree.read_life(user).behaviours) for user in ("u6", "u7")] == [2, 3]


def test_every_server_of_a_cluster_can_be_asked(redis):
    assert len(servers(redis)) == 3
    assert all(server.info("memory")["used_memory"] > 0 for server in servers(redis))


# slots that move


def test_slots_moved_under_load_cost_no_event_and_no_error(cluster, data_name):
    slot = 8192
    users = [*users_in(slot, 15), *(f"other{i}" for i in range(15))]
    random = np.random.default_rng(0)
    events = [
        arrived(users[user], int(row), int(ts))
        for user, row, ts in zip(*(random.integers(low, high, 3000) for low, high in [(0, 30), (2, 60), (0, 500)]), strict=True)
    ]
    acknowledged = dict.fromkeys(users, 0)
    done, lock = threading.Event(), threading.Lock()

    def write(share):
        client = connect(cluster.url, timeout_s=5)
        appender = Appender(client, data_name, 1, Caps(per_user=0))
        for start in range(0, len(share), 10):
            new = appender.append(share[start : start + 10])
            with lock:
                for one, put in zip(share[start : start + 10], new, strict=True):
                    acknowledged[one.user_id] += put
            time.sleep(0.002)
        client.close()

    def read():
        client, reads = connect(cluster.url, timeout_s=5), 0
        tree = BehaviourTree(client, data_name, 1)
        while not done.is_set():
            for user in users:
                with lock:
                    least = acknowledged[user]
                assert len(tree.read_life(user).behaviours) >= least, f"{user}: an acknowledged event is missing"
                reads += 1
        client.close()
        return reads

    moved = 0
    with ThreadPoolExecutor(4) as threads:
        shares = [events[i::2] for i in range(2)] + [[events[i] for i in random.permutation(3000)[:1500]]]
        writers = [threads.submit(write, share) for share in shares]
        reader = threads.submit(read)
        try:
            while not all(writer.done() for writer in writers):
                source = cluster.node_of(slot)
                moved += cluster.move_slot(slot, source, (source + 1) % 3, lambda: time.sleep(0.003))
                time.sleep(0.1)
        finally:
            done.set()
        for writer in writers:
            writer.result()
        assert reader.result() > 100
    assert moved > 30, "the slot did not move while it was written to"
    client = connect(cluster.url)
    for user in users:
        expected = encode_tree(rebuilt([one for one in events if one.user_id == user]))
        stored = client.hgetall(keys.tree(data_name, user))
        assert {field: stored[field] for field in stored if field not in (keys.TOTAL_FIELD, keys.ARRIVED_FIELD)} == expected
    client.close()


TOUCH_BOTH = Script("return redis.call('HINCRBY', KEYS[1], 'n', 1) + redis.call('HLEN', KEYS[2])")


@pytest.fixture
def half_moved(cluster, data_name):
    """A user's two keys on two nodes, their slot between them; yields the keys and what ends the move."""
    slot, user = 100, users_in(100, 1)[0]
    pair = [keys.tree(data_name, user), keys.states(data_name, user)]
    source = cluster.node_of(slot)
    target = (source + 1) % 3
    for name in pair:
        cluster.node(source).hset(name, "n", 0)
    in_between, ended = threading.Event(), threading.Event()

    def wait():
        in_between.set()
        ended.wait(60)

    with ThreadPoolExecutor(1) as threads:
        moving = threads.submit(cluster.move_slot, slot, source, target, wait)
        in_between.wait(60)
        yield pair, ended.set
        ended.set()
        moving.result()
    cluster.node(target).delete(*pair)  # only two keys are ever in this slot


def test_a_script_waits_for_two_keys_that_are_being_moved(redis, half_moved):
    pair, end = half_moved
    timer = threading.Timer(0.3, end)
    timer.start()
    started = time.monotonic()
    assert TOUCH_BOTH.run_all(redis, [Call(pair, [])] * 2) == [2, 3]
    assert time.monotonic() - started > 0.25
    timer.join()


def test_it_does_not_wait_longer_than_the_clients_limit(cluster, half_moved):
    pair, _ = half_moved
    client = connect(cluster.url, timeout_s=0.2)
    started = time.monotonic()
    with pytest.raises(TryAgainError):
        TOUCH_BOTH.run(client, Call(pair, []))
    assert 0.15 < time.monotonic() - started < 2
    client.close()


def test_a_slot_that_moves_as_a_whole_never_makes_a_script_wait(tmp_path, data_name):
    """Valkey 9 moves slots without a time in between."""
    cluster = Cluster(tmp_path)
    client = connect(cluster.url, timeout_s=5)
    try:
        slot, user = 100, users_in(100, 1)[0]
        tree_key = keys.tree(data_name, user)  # its states are missing, as most users'
        source = cluster.node_of(slot)
        target = (source + 1) % 3
        call = Call([tree_key, keys.states(data_name, user)], [])
        assert TOUCH_BOTH.run(client, call) == 1
        cluster.node(source).execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.ids[target])
        calls = 1
        while cluster.node_of(slot) != target:
            calls += 1
            assert TOUCH_BOTH.run(client, call) == calls
        assert TOUCH_BOTH.run(client, call) == calls + 1
    finally:
        client.close()
        cluster.close()


def test_a_whole_tree_is_written_where_its_slot_went(redis, cluster, data_name):
    slot = 200
    user = users_in(slot, 1)[0]
    tree = BehaviourTree(redis, data_name, 1)
    tree.write(user, behaviours_of((2, 2, 5, 1)))
    source = cluster.node_of(slot)
    cluster.move_slot(slot, source, (source + 1) % 3)
    tree.write(user, behaviours_of((3, 2, 6, 1)))
    assert events_of(tree.read_life(user).behaviours) == [(3, 2, 6, 1)]
