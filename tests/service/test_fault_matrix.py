"""What the network and the server between scorer and store can do, one by one: every answer is a 200, and its owner's.

User `u<k>` has k behaviours, so an answer says whose data it was made of.
"""

import json
import re
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from loadtest.proofs.fault_proxy import Fault, fault_proxy
from store import keys
from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.types import Behaviours
from tests.service.own_store import OwnStore
from tests.service.serving import served, until
from tests.service.tiny import ITEMS, Tiny

USERS, CALLERS = 24, 4
CHECKS, PROBES = 5, 5  # a second: commands that look at versions or open connections; of the breaker while it is open
TIMEOUT_MS = 150
MODEL = "eta"  # reads the whole life


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"))
    tiny.add(MODEL)
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        store = OwnStore(Path(folder))
        store.start()
        tiny.fill(store.url)
        client = connect(store.url)
        tree, random = BehaviourTree(client, tiny.data, 1), np.random.default_rng(0)
        for k in range(1, USERS + 1):
            row = random.integers(2, 2 + len(ITEMS), k).astype(np.int32)
            cross = np.ones((k, 1), np.uint8)
            tree.write(f"u{k}", Behaviours(row, tiny.registry.category[row], np.arange(100, 100 + k), cross))
        yield tiny, store, client
        client.close()
        store.kill()


@pytest.fixture(scope="module")
def system(installed):
    """A scorer whose only way to its store is the proxy, and what every user's scores are."""
    tiny, store, _ = installed
    with (
        fault_proxy(store.url) as proxy,
        served(tiny.bundles, proxy.url, store_timeout_ms=TIMEOUT_MS, model=MODEL, queue_ms=60_000) as (client, app),
    ):
        whole = {k: until(lambda k=k: whole_of(client, k)) for k in range(USERS + 1)}
        yield proxy, client, app, whole


@pytest.fixture
def running(system):
    """The same, with nothing wrong before a test and after it."""
    proxy, client, _, _ = system
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [])
    yield system
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [], 10)


def ask(client, k):
    response = client.post("/score", json={"user_id": f"u{k}", "item_ids": list(ITEMS), "at": 1_000})
    assert response.status_code == 200, response.text
    return response.json() | {"stages": response.headers["server-timing"]}


def whole_of(client, k):
    answer = ask(client, k)
    return answer["scores"] if answer["degraded"] == [] else None


def asked_by_many(client, seconds=0.0, count=25):
    """Answers to callers who ask for all users in turn, at the same time."""
    end = time.monotonic() + seconds

    def caller(c):
        answers = []
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            i = 0
            while i < count or time.monotonic() < end:
                k = (c * 7 + i) % (USERS + 1)
                answers.append((k, ask(own, k)))
                i += 1
        return answers

    with ThreadPoolExecutor(CALLERS) as threads:
        return [answer for answers in threads.map(caller, range(CALLERS)) for answer in answers]


def check_owners(answers, whole):
    """Each answer is made of all of its own user's data, or of nobody's; the words that answers said."""
    said = set()
    for k, answer in answers:
        said |= set(answer["degraded"])
        assert answer["behaviours"] == (0 if answer["degraded"] else k)
        assert answer["scores"] == (whole[0] if answer["degraded"] else whole[k])
    return said


@contextmanager
def no_storm(proxy):
    """What is asked meanwhile, and answered, costs the store no more commands than answers, and no connection each."""
    commands, connections, started, answers = proxy.commands, proxy.connections, time.monotonic(), []
    yield answers
    seconds = time.monotonic() - started
    assert proxy.commands - commands <= len(answers) + CHECKS * (seconds + 2)
    assert proxy.connections - connections <= PROBES * (seconds + 2)


SAID = [b"-LOADING Redis is loading the dataset in memory\r\n", b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n", b"-MOVED 3999 127.0.0.1:6381\r\n",
        b"-NOAUTH Authentication required.\r\n", b"-BUSY Redis is busy running a script.\r\n", b"-ERR unknown\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n"]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(Fault(delay_s=0.02), set(), id="latency within the limit"),
        pytest.param(Fault(delay_s=0.02, jitter_s=0.02), set(), id="jitter within the limit"),
        pytest.param(Fault(delay_s=1.0), {"store_timeout", "store_down"}, id="latency beyond the limit"),
        pytest.param(Fault(delay_s=0.15, jitter_s=0.14), {"store_timeout", "store_down"}, id="jitter around the limit"),
        pytest.param(Fault(piece_bytes=1), set(), id="replies in pieces of a byte"),
        pytest.param(Fault(bytes_per_s=400), {"store_timeout", "store_down"}, id="narrow"),
        pytest.param(Fault(silent=True), {"store_timeout", "store_down"}, id="half open"),
        pytest.param(Fault(reset=True), {"store_down"}, id="reset"),
        pytest.param(Fault(cut_after_bytes=30), {"store_down", "store_timeout", "store_error"}, id="cut off"),
        pytest.param(Fault(refuse=True), {"store_down"}, id="refused"),
    ],
)
def test_a_bad_network_costs_no_answer_and_gives_nobody_anothers(running, fault, words):
    proxy, client, _, whole = running
    proxy.fault = fault
    with no_storm(proxy) as answers:
        answers += asked_by_many(client, seconds=0.7)
    assert check_owners(answers, whole) <= words
    if words:
        until(lambda: ask(client, 1)["degraded"])  # and it does show
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)  # used again within 2 s
    assert check_owners(asked_by_many(client), whole) <= words  # a probe may still be on its way
    assert check_owners(asked_by_many(client), whole) == set()


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.split()[0].decode())
def test_an_error_of_the_server_costs_no_answer(running, said):
    proxy, client, _, whole = running
    proxy.fault = Fault(reply=said)
    with no_storm(proxy) as answers:
        answers += asked_by_many(client)
    assert {"store_error"} <= check_owners(answers, whole) <= {"store_error", "store_down"}
    assert ask(client, 1)["degraded"]
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)
    assert check_owners(asked_by_many(client), whole) == set()


def test_connections_do_not_pile_up(running):
    """After slow, cut and reset ones as many are open as there are threads that read."""
    proxy, client, app, _ = running
    for fault in (Fault(delay_s=0.5), Fault(reset=True), Fault(cut_after_bytes=30), Fault(silent=True)):
        proxy.fault = fault
        asked_by_many(client, count=10)
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)
    asked_by_many(client)
    threads = app.state.service.settings.request_threads
    until(lambda: proxy.open <= 2 * threads + 2, 10)  # readers, and those of /events


def test_a_store_that_does_not_answer_is_asked_by_the_breakers_probes_alone(running):
    proxy, client, _, _ = running
    proxy.fault = Fault(silent=True)
    until(lambda: ask(client, 1)["degraded"] == ["store_down"])
    before, started = proxy.commands, time.monotonic()
    answers = asked_by_many(client, seconds=1.0)
    assert len(answers) > 50
    assert proxy.commands - before <= PROBES * (time.monotonic() - started) + 5


def test_a_server_that_hangs_costs_no_answer_and_opens_the_breaker_within_a_second(running, installed):
    _, store, _ = installed
    _, client, _, whole = running
    with store.stopped():
        hung = time.monotonic()
        assert check_owners(asked_by_many(client), whole) <= {"store_timeout", "store_down"}
        until(lambda: ask(client, 1)["degraded"] == ["store_down"])
        assert time.monotonic() - hung < 1 + TIMEOUT_MS / 1000
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)
    assert check_owners(asked_by_many(client), whole) == set()


def test_a_server_that_is_killed_costs_no_answer_and_is_used_again_within_two_seconds_of_its_start(running, installed):
    _, store, _ = installed
    _, client, _, whole = running
    store.kill()
    assert check_owners(asked_by_many(client), whole) <= {"store_timeout", "store_down"}
    store.start()
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)
    assert check_owners(asked_by_many(client), whole) == set()


def test_no_answer_waits_longer_than_the_limit_of_the_store(running):
    proxy, client, _, _ = running
    proxy.fault = Fault(delay_s=3.0)
    with no_storm(proxy) as answers:  # nobody asks twice
        answers += asked_by_many(client, count=10)
    waits = [
        float(re.search(r"behaviours;dur=([\d.]+)", answer["stages"])[1])
        for _, answer in answers if answer["degraded"] == ["store_timeout"]
    ]  # fmt: skip
    assert TIMEOUT_MS * 0.9 < min(waits) < TIMEOUT_MS * 1.5
    assert max(waits) < TIMEOUT_MS * 5  # it waits for a core too, and for no reply: that takes 3 s


def test_a_store_that_sends_a_little_now_and_then_is_no_504_and_opens_the_breaker(installed):
    """No piece of a reply is late by itself."""
    tiny, store, _ = installed
    with (
        fault_proxy(store.url) as proxy,
        served(tiny.bundles, proxy.url, store_timeout_ms=40, timeout_ms=300, model=MODEL) as (client, _),
    ):
        proxy.fault = Fault(piece_bytes=10, delay_s=0.02)
        answers = [ask(client, 24) for _ in range(20)]
        assert sum(answer["degraded"] == ["store_down"] for answer in answers) > len(answers) / 2


def test_the_wrong_type_under_a_users_key_is_an_error_of_the_store(running, installed):
    tiny, _, store = installed
    _, client, _, whole = running
    store.set(keys.tree(tiny.data, "wrong"), "no hash")
    answer = client.post("/score", json={"user_id": "wrong", "item_ids": list(ITEMS), "at": 1_000}).json()
    assert (answer["degraded"], answer["behaviours"], answer["scores"]) == (["store_error"], 0, whole[0])


def test_callers_who_hang_up_hold_nothing(running):
    """Fifty who do not wait for their answers, while the store is slow: no slot stays taken, and others are answered."""
    proxy, client, app, whole = running
    proxy.fault = Fault(delay_s=0.1)

    body = json.dumps({"user_id": "u3", "item_ids": list(ITEMS)}).encode()
    head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    for _ in range(50):
        with socket.create_connection((client.base_url.host, client.base_url.port)) as impatient:
            impatient.sendall(head + body)
            time.sleep(0.005)
    until(lambda: app.state.service.score_slots.taken == 0)
    proxy.fault = Fault()
    until(lambda: ask(client, 1)["degraded"] == [], 2.5)
    assert check_owners(asked_by_many(client), whole) == set()


def test_the_proxy_itself_changes_nothing(running):
    """The control: without a fault answers are whole."""
    _, client, _, whole = running
    assert check_owners(asked_by_many(client), whole) == set()
    assert threading.active_count() < 100
