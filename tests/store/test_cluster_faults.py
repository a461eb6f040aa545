"""Nodes that die, hang and come back, slots that nobody has: errors of the store, in time, and only for whom they concern."""

import os
import signal
import time

import pytest
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, RedisError
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from service.behaviours import reason
from store.append import Appender, Arrived
from store.behaviour_tree import BehaviourTree
from store.cluster import NodeDown, NodeTooSlow
from store.connection import connect
from tests.service.serving import until
from tests.store.cluster import Cluster
from tests.store.servers import VALKEY, Server

NOBODY = "redis+cluster://127.0.0.1:1,127.0.0.1:2"


def arrived(user, row, ts):
    return Arrived(user, row, row % 3 + 2, ts, b"\1")


@pytest.fixture
def own_cluster(tmp_path):
    """A cluster that the test may break."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def test_a_replica_that_takes_over_is_found_by_the_same_client(own_cluster, data_name):
    own_cluster.add_replica(of=0)
    client = connect(own_cluster.url, timeout_s=2)
    appender, user = Appender(client, data_name, 1), own_cluster.user_on(0)
    appender.append([arrived(user, 2, 1)])
    own_cluster.node(0).execute_command("WAIT", 1, 2000)
    own_cluster.servers[0].kill()

    tree = BehaviourTree(client, data_name, 1)
    assert until(lambda: _answers(tree, user), 30)
    assert appender.append([arrived(user, 2, 1), arrived(user, 2, 2)]) == [False, True]
    assert len(tree.read_life(user).behaviours) == 2
    client.close()


def test_reads_go_to_replicas_where_the_url_says_so(own_cluster, data_name):
    own_cluster.add_replica(of=0)
    replica, user = own_cluster.node(3), own_cluster.user_on(0)

    def read_by_replica(url):
        client = connect(url, timeout_s=5)
        replica.config_resetstat()
        for _ in range(10):
            BehaviourTree(client, data_name, 1).read_life(user)
        client.close()
        return replica.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]

    assert read_by_replica(own_cluster.url) == 0
    assert read_by_replica(f"{own_cluster.url}?read_from_replicas=true") == 5


@pytest.fixture
def one_node(tmp_path):
    """A cluster of one server, whose slots the test may take away."""
    cluster = Cluster(tmp_path, nodes=1)
    client = connect(cluster.url, timeout_s=5)
    yield cluster, client
    client.close()
    cluster.close()


def test_a_cluster_that_is_down_says_so_at_once(one_node):
    cluster, client = one_node
    client.get("a")
    cluster.node(0).execute_command("CLUSTER", "DELSLOTSRANGE", 0, 16383)
    started = time.monotonic()
    with pytest.raises(ClusterDownError) as caught:
        client.get("a")
    assert time.monotonic() - started < 0.2  # the library waits a quarter of a second here
    assert reason(caught.value) == "store_error"


def test_a_slot_that_no_node_has_is_a_store_that_is_down(one_node):
    cluster, _ = one_node
    cluster.node(0).execute_command("CLUSTER", "DELSLOTS", key_slot(b"a"))
    client = connect(cluster.url, timeout_s=5)
    with pytest.raises(StoreConnectionError) as caught:
        client.get("a")
    assert reason(caught.value) == "store_down"
    with pytest.raises(StoreConnectionError):
        client.pipeline(transaction=False).get("a").execute()
    cluster.node(0).execute_command("CLUSTER", "ADDSLOTS", key_slot(b"a"))
    until(lambda: b"cluster_state:ok" in str(cluster.node(0).execute_command("CLUSTER", "INFO")).encode())

    def answer():
        try:
            return client.set("a", 1)
        except RedisError:
            return None

    assert until(answer, 5) is True
    client.close()


def test_keys_of_two_slots_in_one_call_are_an_error_of_the_store(own_cluster):
    client = connect(own_cluster.url, timeout_s=5)
    for call in (
        lambda: client.eval("return 1", 2, "a", "b"),
        lambda: client.pipeline(transaction=False).execute_command("EVAL", "return 1", 2, "a", "b").execute(),
        lambda: client.pipeline(transaction=True),
    ):
        with pytest.raises(RedisError) as caught:
            call()
        assert reason(caught.value) == "store_error"
    client.close()


def test_no_cluster_is_looked_for_before_the_first_call():
    client = connect(NOBODY, timeout_s=1)
    for _ in range(2):
        with pytest.raises(StoreConnectionError) as caught:
            client.get("a")
        assert reason(caught.value) == "store_down"
    client.close()


def test_a_cluster_that_starts_later_is_found(tmp_path):
    one = Cluster(tmp_path, nodes=1)
    client = connect(one.url, timeout_s=1)
    one.servers[0].kill()
    with pytest.raises(StoreConnectionError):
        client.get("a")
    one.servers[0].start()
    one.node(0).execute_command("CLUSTER", "INFO")

    def answer():
        try:
            return client.set("a", 1)
        except RedisError:
            return None

    assert until(answer) is True
    client.close()
    one.close()


def test_a_server_that_is_no_cluster_is_a_store_that_is_down(tmp_path):
    server = Server(VALKEY, tmp_path)
    server.start()
    client = connect(server.url.replace("redis://", "redis+cluster://"), timeout_s=1)
    with pytest.raises(StoreConnectionError, match="not enabled"):
        client.get("a")
    client.close()
    server.kill()


def test_a_node_that_does_not_answer_is_asked_again_after_a_pause(own_cluster, data_name):
    client = connect(own_cluster.url, timeout_s=1)
    user = own_cluster.user_on(1)
    tree = BehaviourTree(client, data_name, 1)
    tree.read_life(user)
    own_cluster.servers[1].kill()
    for _ in range(5):
        with pytest.raises(NodeDown):
            tree.read_life(user)
        with pytest.raises(NodeDown):
            client.pipeline(transaction=False).hget(f"{data_name}:tree:{{{user}}}", "n").execute()
    own_cluster.servers[1].start()
    assert until(lambda: _answers(tree, user))
    client.close()


def test_a_node_that_hangs_is_not_waited_for_again_and_again(own_cluster, data_name):
    client = connect(own_cluster.url, timeout_s=0.5)
    users, others = (
        [f"x{i}" for i in range(200) if (own_cluster.node_of(key_slot(b"x%d" % i)) == 1) is hangs] for hangs in (True, False)
    )
    tree, appender = BehaviourTree(client, data_name, 1), Appender(client, data_name, 1)
    appender.append([arrived(user, 2, 1) for user in users + others])
    os.kill(own_cluster.servers[1].pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(StoreTimeoutError):  # not one user after the other
            appender.append([arrived(user, 2, 2) for user in users + others])
        assert time.monotonic() - started < 2
        errors = []
        for _ in range(6):
            with pytest.raises((NodeDown, NodeTooSlow)) as caught:
                tree.read_life(users[0])
            errors.append(caught.type)
        # the append was the first failure of three; one on a connection that had to be made anew opens the breaker at once
        waited_for = errors.index(NodeDown)
        assert errors[:waited_for] in ([NodeTooSlow], [NodeTooSlow] * 2)
        started = time.monotonic()
        assert [len(tree.read_life(user).behaviours) for user in others] == [2] * len(others)
        assert time.monotonic() - started < 2
    finally:
        os.kill(own_cluster.servers[1].pid, signal.SIGCONT)
    assert until(lambda: _answers(tree, users[0]))
    assert sum(appender.append([arrived(user, 2, 2) for user in users])) <= len(users)  # some were taken after all
    assert [len(tree.read_life(user).behaviours) for user in users] == [2] * len(users)
    client.close()


def _answers(tree, user):
    try:
        return tree.read_life(user) is not None
    except RedisError:
        return False
