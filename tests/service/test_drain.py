"""SIGTERM: not ready at once, serving on, then an end that loses no call."""

import http.client
import json
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from loadtest.proofs.drain import Seen, call_until_nobody_listens
from tests.service.serving import NOBODY, until
from tests.world import running_scorer

BODY = json.dumps({"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"})
JSON = {"content-type": "application/json"}
DRAIN_MS = 700


@pytest.fixture
def process(tiny):
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY, drain_ms=DRAIN_MS) as running:
        yield running


def ask(connection):
    connection.request("POST", "/score", BODY, JSON)
    answer = connection.getresponse()
    return answer.status, answer.headers.get("connection", ""), answer.read()


def test_a_scorer_that_ends_says_so_serves_on_and_loses_nothing(process):
    running, port = process
    kept = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(50)]
    assert [ask(connection)[0] for connection in kept] == [200] * 50
    assert ask(kept[0])[1] != "close"

    running.send_signal(signal.SIGTERM)
    told = time.monotonic()
    fresh = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def not_ready():
        fresh.request("GET", "/v2/health/ready")
        answer = fresh.getresponse()
        answer.read()
        return answer.status == 503

    until(not_ready, 0.5)
    answers = [ask(connection) for connection in kept]  # open ones
    assert [(status, header) for status, header, _ in answers] == [(200, "close")] * 50
    again = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    assert ask(again)[:2] == (200, "close")  # a new one
    assert time.monotonic() - told < DRAIN_MS / 1000

    assert running.wait(20) == 0
    assert time.monotonic() - told >= DRAIN_MS / 1000
    with pytest.raises(OSError):
        http.client.HTTPConnection("127.0.0.1", port, timeout=2).connect()


@contextmanager
def callers_until_nobody_listens(port, count=50):
    """What became of their calls."""
    seen = Seen()
    threads = [threading.Thread(target=call_until_nobody_listens, args=(port, BODY.encode(), seen)) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield seen
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_that_go_on_while_a_scorer_ends_are_all_answered(tiny, workers):
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY, drain_ms=DRAIN_MS, workers=workers, queue_ms=60_000) as (running, port):
        with callers_until_nobody_listens(port) as seen:
            time.sleep(0.3)
            running.send_signal(signal.SIGTERM)
        assert (seen.lost, seen.others) == ([], [])
        assert seen.answered > 50
        assert running.wait(20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_it_at_once(tiny, workers):
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY, drain_ms=60_000, workers=workers) as (running, _):
        running.send_signal(signal.SIGTERM)
        time.sleep(0.3 if workers == 1 else 1.5)  # a parent looks for signals twice a second
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) is not None
