"""Several processes behind one address: one is killed, and throughput by connections."""

import http.client
import os
import signal
import threading
import time
from pathlib import Path

from loadtest.proofs.system import CROWDED, Row, System, knee_per_s, system, workers_of

CALLERS, BEFORE_S, AFTER_S, RESTARTED_S = 4, 1.0, 3.0, 1.0
CONNECTIONS = (2, 4, 16)
KEPT = 0.8  # of the throughput of two connections, that sixteen still have
RATE_S = 3.0
ANSWERED_S = 60.0  # patience with a new process
SETTINGS = CROWDED | {"CTR_WORKERS": "2", "CTR_REQUEST_THREADS": "1"}


def prove_workers(folder: Path) -> list[Row]:
    """One of two processes is killed under load; then answers a second over few and many connections, of two and of one."""
    with system(folder, SETTINGS, direct=True) as two:
        _wait_for(two, 2, -1)
        rows = _killed(two)
        _wait_for(two, 2, -1)
        answered_s = _answered_after_s(two)
        rows.insert(1, Row("both processes killed: a new one answers after", f"{answered_s:.2f} s", "", 1, answered_s, True))
        _wait_for(two, 2, -1)
        rows.append(rate_row("two processes", _rates(two)))
    with system(folder, CROWDED, direct=True) as one:
        return [*rows, rate_row("one process", _rates(one))]


def _rates(served: System) -> list[float]:
    return [knee_per_s(served, RATE_S, callers) for callers in CONNECTIONS]


def rate_row(who: str, rates: list[float]) -> Row:
    """Whether throughput holds with more connections."""
    said = ", ".join(f"{rate:.0f}" for rate in rates)
    connections = ", ".join(map(str, CONNECTIONS))
    return Row(f"{who}: answers a second at {connections} connections", said, f"the last at least {KEPT:g} of the first",
               int(sum(rates) * RATE_S), RATE_S * len(rates), rates[-1] >= KEPT * rates[0])  # fmt: skip


def _killed(two: System) -> list[Row]:
    lost: list[str] = []
    answered: list[int] = []
    ended = threading.Event()

    def caller() -> None:
        while not ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", two.port, timeout=20)
            try:
                connection.request("POST", "/score", two.requests[0], {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                answered.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
            connection.close()

    callers = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for thread in callers:
        thread.start()
    try:
        time.sleep(BEFORE_S)
        killed = min(workers_of(two.pid))
        os.kill(killed, signal.SIGKILL)
        restarted = _wait_for(two, 2, killed)
        time.sleep(AFTER_S)
    finally:
        ended.set()
    for thread in callers:
        thread.join()
    n, others = len(answered) + len(lost), sum(status != 200 for status in answered)
    seconds = BEFORE_S + restarted + AFTER_S
    return [
        Row("a process of two killed: another is started after", f"{restarted:.2f} s", f"{RESTARTED_S:g} s", 1, restarted,
            restarted <= RESTARTED_S),
        Row("a process of two killed: calls lost", str(len(lost)), f"{CALLERS}, those in flight", n, seconds,
            len(lost) <= CALLERS),
        Row("a process of two killed: answers other than 200", str(others), "0", n, seconds, others == 0),
    ]  # fmt: skip


def _answered_after_s(two: System) -> float:
    """Both processes are killed, so that only a new one can answer: how long that takes."""
    for worker in workers_of(two.pid):
        os.kill(worker, signal.SIGKILL)
    died = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", two.port, timeout=ANSWERED_S)
    connection.request("POST", "/score", two.requests[0], {"content-type": "application/json"})
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - died


def _wait_for(two: System, count: int, but: int, patience_s: float = 10.0) -> float:
    """Seconds until there are so many processes, one not counted."""
    started = time.perf_counter()
    while len(workers_of(two.pid) - {but}) < count and time.perf_counter() - started < patience_s:
        time.sleep(0.01)
    return time.perf_counter() - started
