"""A scorer over a cluster, over one that loses a node, and over a replica that it reads from."""

import time

import pytest
from redis.crc import key_slot

from tests.service.serving import served, until
from tests.service.tiny import HISTORY, ITEMS, USER
from tests.store.cluster import Cluster
from tests.store.servers import VALKEY, Server


@pytest.fixture
def cluster(tmp_path):
    """A cluster of the test's own."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


def test_an_event_is_in_the_next_score(cluster, shared_tiny):
    shared_tiny.fill(cluster.url)
    with served(shared_tiny.bundles, cluster.url, model="eta", admin_api_key="k") as (client, _):
        body = {"user_id": USER, "item_ids": list(ITEMS)}
        before = client.post("/score", json=body).json()
        sent = {"events": [{"user_id": USER, "item_id": next(iter(ITEMS)), "ts": 1_700_000_123}]}
        assert client.post("/events", json=sent).json() == {"accepted": 1, "duplicates": 0}
        after = client.post("/score", json=body).json()
        assert (before["behaviours"], after["behaviours"], after["degraded"]) == (len(HISTORY), len(HISTORY) + 1, [])
        assert client.get(f"/users/{USER}/behaviours").json()["total"] == len(HISTORY) + 1
        assert client.delete(f"/users/{USER}", headers={"authorization": "Bearer k"}).json()["removed"] is True


@pytest.mark.parametrize("dies", ["the registry's node", "another"])
def test_a_killed_node_costs_its_own_users_and_no_others(cluster, shared_tiny, dies):
    shared_tiny.fill(cluster.url)
    registry_node = cluster.node_of(key_slot(b"registry"))
    dead = registry_node if dies == "the registry's node" else (registry_node + 1) % 3
    users = {node: cluster.user_on(node) for node in range(3)}
    settings = {"model": "eta", "store_timeout_ms": 500, "events_timeout_ms": 500}
    with served(shared_tiny.bundles, cluster.url, **settings) as (client, _):

        def scored(node):
            started = time.monotonic()
            response = client.post("/score", json={"user_id": users[node], "item_ids": list(ITEMS)})
            assert response.status_code == 200
            return response.json()["degraded"], time.monotonic() - started

        def appended(node):
            event = {"user_id": users[node], "item_id": next(iter(ITEMS)), "ts": 1}
            return client.post("/events", json={"events": [event]}).status_code

        assert [scored(node)[0] for node in range(3)] == [[], [], []]
        cluster.servers[dead].kill()
        waits, end = [], time.monotonic() + 2.5  # the registry is looked at once a second
        while time.monotonic() < end:
            for node in range(3):
                degraded, seconds = scored(node)
                waits.append(seconds)
                assert degraded == (["store_down"] if node == dead else [])
        assert sorted(waits)[len(waits) // 2] < 0.1
        assert max(waits) < 2
        served_nodes = [] if dead == registry_node else [node for node in range(3) if node != dead]
        assert [appended(node) for node in range(3)] == [202 if node in served_nodes else 503 for node in range(3)]


@pytest.fixture
def primary_and_replica(tmp_path):
    """Two servers, the second of which follows the first."""
    primary = Server(VALKEY, tmp_path / "primary", repl_diskless_sync_delay=0)
    primary.start()
    replica = Server(VALKEY, tmp_path / "replica", replicaof=f"127.0.0.1 {primary.port}")
    replica.start()
    yield primary, replica
    replica.kill()
    primary.kill()


def test_scores_read_where_the_setting_says_and_events_go_to_the_primary(primary_and_replica, shared_tiny):
    primary, replica = primary_and_replica
    shared_tiny.fill(primary.url)
    body = {"user_id": USER, "item_ids": list(ITEMS)}
    sent = {"events": [{"user_id": USER, "item_id": next(iter(ITEMS)), "ts": 1_700_000_123}]}
    with served(shared_tiny.bundles, primary.url, redis_read_url=replica.url, model="eta") as (client, _):

        def behaviours():
            return client.post("/score", json=body).json()["behaviours"]

        until(lambda: behaviours() == len(HISTORY))
        assert client.post("/events", json=sent).status_code == 202
        until(lambda: behaviours() == len(HISTORY) + 1)
        replica.kill()
        assert client.post("/score", json=body).json()["degraded"] == ["store_down"]
        assert client.post("/events", json=sent).json() == {"accepted": 0, "duplicates": 1}
        assert client.get(f"/users/{USER}/behaviours").json()["total"] == len(HISTORY) + 1
