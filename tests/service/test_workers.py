"""Several processes behind one address: one that is killed is replaced, all agree on the version, all end."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psutil
import pytest
import uvicorn
from uvicorn.supervisors import Multiprocess

from loadtest.proofs.system import workers_of
from service.server import LOAD_S, Parent
from tests.service.serving import NOBODY, until
from tests.world import running_scorer

NEWER = "20270131T120000Z"
ADMIN = {"authorization": "Bearer admin"}
SCORE = {"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"}


@pytest.fixture
def running(tiny):
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY, workers=2, admin_api_key="admin") as (process, port):
        until(lambda: len(workers_of(process.pid)) == 2)
        yield process, f"http://127.0.0.1:{port}", tiny


def score(url):
    """One call over a connection of its own, to whichever process takes it."""
    return httpx.post(f"{url}/score", json=SCORE, timeout=30, verify=False)  # reading authorities takes most of a core


def test_a_killed_process_is_replaced_and_only_its_calls_in_flight_are_lost(running):
    process, url, _ = running
    killed = min(workers_of(process.pid))
    lost, answered, ended = [], [], threading.Event()

    def caller():
        while not ended.is_set():
            try:
                answered.append(score(url).status_code)
            except httpx.TransportError as error:
                lost.append(error)

    with ThreadPoolExecutor(4) as callers, ExitStack() as stack:
        stack.callback(ended.set)
        for _ in range(4):
            callers.submit(caller)
        until(lambda: len(answered) > 20)
        os.kill(killed, signal.SIGKILL)
        died = time.monotonic()
        until(lambda: len(workers_of(process.pid) - {killed}) == 2, 5)
        replaced_s = time.monotonic() - died
        until(lambda: time.monotonic() - died > 2.5)  # it serves too
    assert replaced_s < 1.5  # half a second between looks, and a start
    assert set(answered) == {200}
    assert len(lost) <= 4


def test_one_that_dies_while_it_is_asked_is_replaced_as_soon(running):
    process, _, _ = running
    killed = min(workers_of(process.pid))
    os.kill(killed, signal.SIGSTOP)
    time.sleep(1)  # it is asked each half a second, and 5 s are its time to answer
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(workers_of(process.pid) - {killed}) == 2, 2.5)


def served_by(process):
    """Connections that each worker has taken and serves."""
    return {pid: len(psutil.Process(pid).net_connections("tcp")) for pid in workers_of(process.pid)}


def test_all_agree_on_the_version(running):
    process, url, tiny = running
    tiny.add("din", NEWER)
    body = {"parameters": {"version": NEWER}}
    assert httpx.post(f"{url}/v2/repository/models/din/load", json=body, headers=ADMIN, timeout=30).status_code == 200
    time.sleep(2)
    listening = served_by(process)
    with ExitStack() as stack:
        callers = [stack.enter_context(httpx.Client(timeout=30)) for _ in range(40)]
        assert {caller.post(f"{url}/score", json=SCORE).json()["version"] for caller in callers} == {NEWER}
        taken = served_by(process)
        assert all(taken[worker] > listening[worker] for worker in listening)  # each of them answered


def test_an_end_ends_all(running):
    process, _, _ = running
    children = workers_of(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    until(lambda: not any(psutil.pid_exists(child) for child in children), 10)


def test_a_replacement_may_load_for_longer_than_a_healthy_process_takes_to_answer(monkeypatch):
    config, seen = uvicorn.Config("none", workers=2), []
    monkeypatch.setattr(Multiprocess, "__init__", lambda self, config, sockets: setattr(self, "config", config))
    monkeypatch.setattr(Multiprocess, "restart_all", lambda self: seen.append(self.config.timeout_worker_healthcheck))
    Parent(config, [], 0).restart_all()
    assert (seen, config.timeout_worker_healthcheck) == ([LOAD_S], 5)
