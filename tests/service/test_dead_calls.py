"""Calls that nobody waits for any more, hung up or past their time: what was left to do is not done, and the counters say so."""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import service.pipeline
from service.behaviours import StoreReader
from tests.service.serving import served, until
from tests.service.tiny import ITEMS

BEGUN = ["understand", "behaviours"]
WHOLE = [*BEGUN, "search", "attend"]
CALL = {"user_id": "u1", "item_ids": list(ITEMS), "model": "din"}
BODY = json.dumps(CALL).encode()
SCORE = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


@pytest.fixture
def held(shared_tiny, store_url, monkeypatch):
    """A scorer of one thread whose reads of the store wait for `free`; the steps that were run are noted."""
    free, steps, fetch = threading.Event(), [], StoreReader.fetch

    def waiting_fetch(self, *arguments):
        steps.append("behaviours")
        assert free.wait(60)
        return fetch(self, *arguments)

    def noted(name, step):
        return lambda *arguments: steps.append(name) or step(*arguments)

    monkeypatch.setattr(StoreReader, "fetch", waiting_fetch)
    for name in ("understand", "search", "attend"):
        monkeypatch.setattr(service.pipeline, name, noted(name, getattr(service.pipeline, name)))
    with served(shared_tiny.bundles, store_url, model="din", request_threads=1, queue_ms=60_000) as (client, app):
        yield client, app.state.service, free, steps


def called(client):
    """A connection with a call of /score on it."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    connection.sendall(SCORE)
    return connection


def hang_up(client, *connections):
    """Close these; the scorer's loop has gone round since, and knows."""
    for connection in connections:
        connection.close()
    for _ in range(3):
        client.get("/v2/health/live")


def gone(client):
    answered = r'^ctr_requests_total\{code="499",.*route="/score".*\} (\S+)$'
    found = re.search(answered, client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_the_steps_after_the_one_at_work_are_not_run(held):
    client, scorer, free, steps = held
    connection = called(client)
    until(lambda: steps == BEGUN)
    hang_up(client, connection)
    free.set()
    until(lambda: gone(client) == 1)
    assert steps == BEGUN
    assert scorer.score_slots.taken == 0


def test_a_call_that_waits_for_a_thread_is_not_begun(held):
    client, scorer, free, steps = held
    with called(client) as first:
        until(lambda: steps == BEGUN)
        waiting = [called(client) for _ in range(5)]
        until(lambda: scorer.score_slots.taken == 6)
        hang_up(client, *waiting)
        free.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
    until(lambda: gone(client) == 5)
    assert steps == WHOLE
    assert scorer.score_slots.taken == 0


def test_a_call_whose_own_time_ended_while_it_waited_is_not_begun(held):
    client, scorer, free, steps = held
    with called(client), ThreadPoolExecutor(1) as threads:
        until(lambda: steps == BEGUN)
        late = threads.submit(client.post, "/score", json=CALL | {"timeout_ms": 20})
        until(lambda: scorer.score_slots.taken == 2)
        time.sleep(0.03)
        free.set()
        answer = late.result()
    assert (answer.status_code, answer.json()["field"]) == (504, "queue")
    assert steps == WHOLE


def test_who_stays_is_answered(held):
    """The control: the same call, and nobody hangs up."""
    client, _, free, steps = held
    with called(client) as connection:
        free.set()
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert steps == WHOLE
    assert gone(client) == 0


def test_callers_that_are_slow_to_send_shut_nobody_out(shared_tiny, store_url):
    with served(shared_tiny.bundles, store_url, model="din", request_threads=1, queue_ms=1) as (client, app):
        scorer = app.state.service
        for _ in range(100):
            scorer.queue.took(1.0)
        slow = [socket.create_connection((client.base_url.host, client.base_url.port)) for _ in range(5)]
        try:
            for connection in slow:
                connection.sendall(SCORE[:-1])
            until(lambda: scorer.score_slots.taken == 5)
            assert client.post("/score", json=CALL).status_code == 200
        finally:
            for connection in slow:
                connection.close()


def test_calls_that_are_refused_say_nothing_of_how_long_a_call_takes(shared_tiny, store_url, monkeypatch):
    with served(shared_tiny.bundles, store_url, model="din") as (client, app):
        took = []
        monkeypatch.setattr(app.state.service.queue, "took", took.append)
        assert client.post("/score", json=CALL | {"item_ids": []}).status_code == 422
        assert not took
        assert client.post("/score", json=CALL).status_code == 200
        assert len(took) == 1
