"""The example of users: each may do what it is for, and no more; on servers that are started with it."""

import shutil
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from service.behaviours import reason
from service.keeper import Keeper
from service.metrics import StageTimer
from service.pipeline import score
from service.request import ScoreRequest
from store import keys
from store.append import Appender, Arrived, Caps
from store.behaviour_tree import BehaviourTree
from store.bundle import Bundle
from store.connection import connect
from store.load import store_schema
from store.registry import Registry, StoredRegistry, stored_versions
from store.schema import Schema
from store.states import PUT, put_snapshot
from tests.service.consuming import consumer_process
from tests.service.published import counted, published, reading, refreshed
from tests.service.serving import until
from tests.service.tiny import HISTORY, ITEMS, USER, Tiny
from tests.store.cluster import Cluster
from tests.store.events import behaviours_of
from tests.store.servers import KINDS, NO_REDIS, Server

EXAMPLE = Path(__file__).parents[2] / "store" / "acl.example"
DATA = "complete_journey"


@pytest.fixture(scope="module", params=KINDS)
def url_of(request, tmp_path_factory):
    """`url_of(user)` of a server with the example's users and a loaded data set."""
    if KINDS[request.param] is None:
        pytest.skip(NO_REDIS)
    folder = tmp_path_factory.mktemp("acl")
    shutil.copy(EXAMPLE, folder / "users.acl")
    server = Server(KINDS[request.param], folder, aclfile=folder / "users.acl")

    def url_of(user, password=None):
        return f"redis://{user}:{password or f'change-me-{user}'}@127.0.0.1:{server.port}"

    server.start(url_of("scorer"))
    yield url_of
    server.kill()


@pytest.fixture
def client_of(url_of):
    """`client_of(user)`, closed at the end; the data set is loaded."""
    clients = []

    def client_of(user, password=None):
        clients.append(connect(url_of(user, password)))
        return clients[-1]

    loader = client_of("loader")
    store_schema(loader, Schema(data=DATA, cross_features=[], context=[]))
    StoredRegistry(loader, DATA).load(Registry.build(DATA, ["a"], ["tea"]))
    BehaviourTree(loader, DATA, 0).write("u1", behaviours_of((2, 2, 5)))
    yield client_of
    client_of("operator").flushall()
    for client in clients:
        client.close()


@pytest.mark.parametrize("user", ["scorer", "admin", "loader"])
def test_each_of_them_reads_and_appends(client_of, user):
    client = client_of(user)
    assert stored_versions(client, DATA)[1]
    row, category = StoredRegistry(client, DATA).register(["a", f"new {user}"], ["tea", f"new {user}"])
    many = [Arrived("u1", int(row[1]), int(category[1]), ts, b"") for ts in range(10, 1200)]
    assert all(Appender(client, DATA, 0, Caps(per_user=1000)).append(many))  # with the walk that cuts a user
    assert BehaviourTree(client, DATA, 0).read_life("u1").behaviours.ts.max() == 1199


@pytest.mark.parametrize("user", ["scorer", "admin", "loader", "consumer"])
def test_users_can_expire(client_of, user):
    Appender(client_of(user), DATA, 0, Caps(ttl_s=1000)).append([Arrived("u1", 2, 2, 7, b"")])
    assert client_of("operator").ttl(keys.tree(DATA, "u1")) > 990


def test_a_keeper_takes_names_and_puts_snapshots(client_of):
    client = client_of("keeper")
    Appender(client_of("scorer"), DATA, 0).append([Arrived("u2", 2, 2, ts, b"") for ts in range(40)])
    assert Keeper([], client, DATA).take_names("k", 1) == 1
    tree = BehaviourTree(client, DATA, 0)
    assert set(tree.users()) == {"u1", "u2"}
    arrived = tree.read_life("u2").arrived
    assert PUT.run(client, put_snapshot(DATA, "u2", arrived, "0" * 16, b"packed")) == 1
    Keeper([], client, DATA).drop_others("u2")
    assert client.hkeys(keys.states(DATA, "u2")) == []
    with pytest.raises(NoPermissionError):
        tree.delete("u2")


def test_a_consumer_reads_its_stream(client_of, url_of):
    operator = client_of("operator")
    with consumer_process(url_of("consumer"), data=DATA):
        operator.xadd(keys.events(DATA), {"data": '{"user_id": "u3", "item_id": "a", "ts": 5}'})
        operator.xadd(keys.events(DATA), {"data": "poison"})
        until(lambda: operator.xlen(keys.dead_letters(keys.events(DATA))))
        until(lambda: operator.hexists(keys.tree(DATA, "u3"), "n"))


def test_a_scorer_does_not_delete(client_of):
    with pytest.raises(NoPermissionError) as caught:
        BehaviourTree(client_of("scorer"), DATA, 0).delete("u1")
    assert reason(caught.value) == "store_error"
    assert len(BehaviourTree(client_of("scorer"), DATA, 0).read_life("u1").behaviours) == 1


@pytest.mark.parametrize("user", ["admin", "loader"])
def test_an_admin_deletes(client_of, user):
    assert BehaviourTree(client_of(user), DATA, 0).delete("u1") is True


@pytest.mark.parametrize("user", ["scorer", "admin"])
@pytest.mark.parametrize("command", [["FLUSHALL"], ["CONFIG", "GET", "dir"], ["KEYS", "*"], ["SET", f"{DATA}:schema", "x"]])
def test_the_rest_is_refused(client_of, user, command):
    with pytest.raises(NoPermissionError):
        client_of(user).execute_command(*command)


@pytest.mark.parametrize("user", ["scorer", "admin", "loader"])
def test_other_data_sets_are_refused(client_of, user):
    with pytest.raises(NoPermissionError):
        BehaviourTree(client_of(user), "another", 0).read_life("u1")
    with pytest.raises(NoPermissionError):
        Appender(client_of(user), "another", 0).append([Arrived("u1", 2, 2, 1, b"")])


def test_a_script_may_do_no_more_than_its_user(client_of):
    with pytest.raises(Exception, match=r"can't run|permission"):
        client_of("scorer").eval("return redis.call('DEL', KEYS[1])", 1, f"{DATA}:tree:{{u1}}")


@pytest.fixture
def installed(client_of, url_of, tmp_path):
    """A tiny installation as the example's data set, with a user; the store holds it, and no tables yet."""
    client_of("operator").flushall()
    installed = Tiny.at(tmp_path, DATA)
    bundle = Bundle(installed.add("eta"))
    installed.fill(url_of("loader"))
    return installed, bundle


@pytest.mark.parametrize("user", ["scorer", "admin", "keeper"])
def test_tables_that_the_loader_publishes_are_read(installed, url_of, user):
    tiny, bundle = installed
    published(url_of("loader"), bundle)
    again = published(url_of("loader"), refreshed(tiny, "eta", "20260201T120000Z", seed=1))  # and retires the first
    with reading(tiny.bundles, url_of(user)) as (scorer, _, metrics):
        assert scorer.bundles.get("eta").tables.version == again.published.version
        request = ScoreRequest.model_validate({"user_id": USER, "item_ids": list(ITEMS), "explain": 1})
        answer = score(request, scorer, StageTimer())
        assert (answer.degraded, answer.behaviours) == ([], len(HISTORY))
        assert counted(metrics, "ctr_table_refresh_total", result="ok") == 1


@pytest.mark.parametrize("user", ["scorer", "admin", "keeper", "consumer"])
def test_only_the_loader_publishes(installed, url_of, user):
    with pytest.raises(NoPermissionError):
        published(url_of(user), installed[1])


@pytest.mark.parametrize(("user", "password"), [("scorer", "wrong"), ("nobody", "x"), ("default", "x")])
def test_a_wrong_user_or_password_is_an_error_of_the_store(client_of, user, password):
    with pytest.raises(AuthenticationError) as caught:
        client_of(user, password).hget(f"{DATA}:tree:{{u1}}", "n")
    assert reason(caught.value) == "store_error"


def test_a_cluster_lets_the_same_users_in(tmp_path):
    """What a cluster's client asks besides: slots and commands."""
    cluster = Cluster(tmp_path, nodes=1)
    for line in EXAMPLE.read_text().splitlines()[1:]:
        cluster.node(0).execute_command("ACL", "SETUSER", *line.split()[1:])
    url = cluster.url.replace("://", "://scorer:change-me-scorer@")
    for parameters in ("", "?read_from_replicas=true"):
        client = connect(url + parameters, timeout_s=5)
        Appender(client, DATA, 0).append([Arrived("u1", 2, 2, 1, b"")])
        assert len(BehaviourTree(client, DATA, 0).read_life("u1").behaviours) == 1
        client.close()
    cluster.close()
