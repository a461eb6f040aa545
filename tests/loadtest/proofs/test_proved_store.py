"""A store that is killed comes back with all it had, at an address that the proxy follows."""

import tempfile
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from loadtest.proofs.fault_proxy import fault_proxy
from loadtest.proofs.proved_store import ProvedStore
from loadtest.served.bench_world import DATA
from store import keys
from store.connection import connect
from store.embedded import answers


@pytest.fixture
def store():
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = ProvedStore(Path(folder))
        store.start()
        yield store
        store.stop()


def test_a_killed_store_comes_back_and_the_proxy_leads_to_it(store):
    with fault_proxy(store.url) as proxy:
        with connect(proxy.url) as client:
            client.set("a", 1)
        with store.client() as waiting:
            waiting.execute_command("WAITAOF", 1, 0, 5000)  # on disk: a kill loses what is younger than a second
        before = store.pid, store.url
        store.kill()
        assert not answers(proxy.url)
        store.start()
        proxy.lead_to(store.url)
        with connect(proxy.url) as client:
            assert client.get("a") == b"1"
        assert before[0] != store.pid
        assert before[1] != store.url


def test_wrong_types_stand_in_for_trees_and_go(store):
    client, tree = store.client(), keys.tree(DATA, "u")
    client.hset(tree, "n", b"x")
    with store.wrong_types(["u"]), pytest.raises(RedisError, match="WRONGTYPE"):
        client.hget(tree, "n")
    assert client.hget(tree, "n") == b"x"
    assert client.dbsize() == 1
    client.close()
