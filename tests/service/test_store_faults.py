"""A store that is late, dies, hangs and comes back, under a real scorer process: every answer is a 200."""

import re
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.embedded import answers
from tests.service.own_store import OwnStore
from tests.service.serving import served, until
from tests.service.tiny import HISTORY, ITEMS, USER
from tests.world import scorer_process

STORE_TIMEOUT_MS = 300
OTHER = "u2"  # a user with one behaviour
FAULTS = {"store_down", "store_timeout", "store_error"}  # the last: a store that is still loading its data


@pytest.fixture(scope="module")
def own_store():
    """A store of these tests' own, filled and running."""
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        store.start()
        yield store
        store.kill()


@pytest.fixture(scope="module")
def client(own_store, shared_tiny):
    """A scorer over that store."""
    fill(own_store, shared_tiny)
    with scorer_process(shared_tiny.bundles, own_store.url, store_timeout_ms=STORE_TIMEOUT_MS, model="eta") as client:
        yield client


@pytest.fixture
def store(own_store, client):
    """The store, running and answering before a test and after it."""
    own_store.start()
    recovered(client)
    yield own_store
    own_store.start()
    recovered(client)


def fill(store, tiny):
    tiny.fill(store.url)
    connection = connect(store.url)
    BehaviourTree(connection, tiny.data, 1).write(OTHER, tiny.history(HISTORY[:1]))
    connection.close()


def scored(client, user_id=USER):
    return client.post("/score", json={"user_id": user_id, "item_ids": list(ITEMS)})


def recovered(client):
    return until(lambda: (answer := scored(client).json())["degraded"] == [] and answer)


def test_a_scorer_that_starts_before_its_store_answers_and_recovers_by_itself(shared_tiny):
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        with scorer_process(shared_tiny.bundles, store.url, store_timeout_ms=STORE_TIMEOUT_MS, model="eta") as client:
            assert client.get("/v2/health/live").status_code == 200
            assert client.get("/v2/health/ready").json()["ready"] is True
            response = scored(client)
            assert response.status_code == 200
            assert (response.json()["degraded"], response.json()["behaviours"]) == (["store_down"], 0)

            store.start()
            fill(store, shared_tiny)
            assert until(lambda: scored(client).json()["behaviours"]) == len(HISTORY)
            assert scored(client).json()["degraded"] == []
        store.kill()


def test_a_store_killed_under_load_costs_no_answer_and_is_used_again_when_back(store, client):
    whole = recovered(client)
    empty = scored(client, "nobody").json()
    seen, ended = [], threading.Event()

    def call_again_and_again():
        while not ended.is_set():
            seen.append(scored(client))

    with ThreadPoolExecutor(3) as threads:
        callers = [threads.submit(call_again_and_again) for _ in range(3)]
        try:
            until(lambda: len(seen) > 30)
            store.kill()
            until(lambda: sum(response.json()["degraded"] == ["store_down"] for response in seen[-30:]) > 20)
            store.start()
            until(lambda: all(response.json()["degraded"] == [] for response in seen[-30:]))
        finally:
            ended.set()
        for caller in callers:
            caller.result()

    assert {response.status_code for response in seen} == {200}
    for answer in (response.json() for response in seen):
        assert set(answer["degraded"]) <= FAULTS
        assert answer["scores"] == (empty if answer["degraded"] else whole)["scores"]


def test_a_scorer_stays_live_and_ready_while_its_store_is_down(store, client):
    store.kill()
    assert scored(client).json()["degraded"] == ["store_down"]
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200


def test_what_is_missing_is_counted(store, client):
    count = degraded(client, "store_down")
    store.kill()
    assert scored(client).json()["degraded"] == ["store_down"]
    assert degraded(client, "store_down") == count + 1


def test_a_store_that_hangs_is_not_waited_for_longer_than_its_timeout(store, client):
    with store.stopped():
        response = scored(client)
        assert response.status_code == 200
        assert response.json()["degraded"] == ["store_timeout"]
        waited = float(re.search(r"behaviours;dur=([\d.]+)", response.headers["server-timing"])[1])
        assert STORE_TIMEOUT_MS * 0.9 < waited < STORE_TIMEOUT_MS + 2000


def test_a_store_that_hangs_on_and_on_is_no_longer_asked_after_three_timeouts(store, client):
    recovered(client)
    with store.stopped():
        degraded_by = [scored(client).json()["degraded"] for _ in range(9)]
    assert degraded_by[:3] == [["store_timeout"]] * 3
    assert ["store_down"] in degraded_by[3:]  # between two probes, which are timeouts again


def test_a_store_that_goes_on_after_hanging_is_used_again(store, client):
    with store.stopped():
        until(lambda: scored(client).json()["degraded"] == ["store_down"])
    assert recovered(client)["behaviours"] == len(HISTORY)


def test_a_late_reply_is_never_taken_for_another_users(store, client):
    with store.stopped(), ThreadPoolExecutor(2) as threads:
        for response in threads.map(lambda user: scored(client, user), [USER, OTHER] * 3):
            assert response.json()["degraded"] in (["store_timeout"], ["store_down"])
    recovered(client)
    for _ in range(5):
        assert [scored(client, user).json()["behaviours"] for user in (OTHER, "nobody", USER)] == [1, 0, len(HISTORY)]


def test_a_store_that_lost_its_data_is_a_store_of_unknown_users(store, client, shared_tiny):
    connection = connect(store.url)
    connection.flushall()
    connection.close()
    try:
        answer = scored(client).json()
        assert (answer["behaviours"], answer["degraded"]) == (0, [])
    finally:
        fill(store, shared_tiny)
    assert scored(client).json()["behaviours"] == len(HISTORY)


def test_without_a_url_the_scorer_runs_a_store_of_its_own_and_ends_it(shared_tiny, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        with scorer_process(shared_tiny.bundles, "", store_folder=folder, model="eta") as client:
            url = (Path(folder) / "url").read_text()
            assert answers(url)
            shared_tiny.fill(url)
            assert until(lambda: scored(client).json()["behaviours"]) == len(HISTORY)
        assert not answers(url)


@contextmanager
def host_that_is_gone():
    """An address where connections are never answered: a listener whose queue is full drops what comes."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_a_store_whose_host_is_gone_is_a_timeout(shared_tiny):
    with host_that_is_gone() as url, served(shared_tiny.bundles, url, model="eta") as (client, _):
        response = scored(client)
        assert (response.status_code, response.json()["degraded"]) == (200, ["store_timeout"])


def test_a_store_whose_host_is_gone_costs_no_answer_under_load(shared_tiny):
    with (
        host_that_is_gone() as url,
        served(shared_tiny.bundles, url, model="eta", store_timeout_ms=8, timeout_ms=250) as (client, _),
        ThreadPoolExecutor(40) as threads,
    ):
        responses = list(threads.map(lambda _: scored(client), range(40)))
    assert {response.status_code for response in responses} == {200}


def degraded(client, reason):
    found = re.search(rf'^ctr_degraded_total{{reason="{reason}"}} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0
