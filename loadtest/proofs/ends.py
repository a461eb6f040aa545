"""SIGTERM with callers on open connections, and a killed process of two: who loses what."""

import http.client
import os
import signal
import threading
import time
from pathlib import Path

import psutil

from loadtest.proofs.system import FOLDER, Row, system

CALLERS, DRAIN_MS, BEFORE_S = 50, 2_000, 1.0
RESTARTED_S = 1.0


def prove_drain(folder: Path = FOLDER) -> list[Row]:
    """50 callers that ask again and again, and connect anew when they are asked to, until nobody listens."""
    wrong: list[int] = []
    resets: list[str] = []
    answered: list[int] = []
    with system(folder, CTR_DRAIN_MS=str(DRAIN_MS), CTR_MAX_IN_FLIGHT="1000", CTR_QUEUE_MS="60000") as one:
        body = one.requests[0]

        def caller() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
            while True:
                try:
                    if connection.sock is None:
                        connection.connect()
                except ConnectionRefusedError:
                    return  # nobody listens any more: nobody was lost
                except OSError as error:
                    resets.append(repr(error))
                    return
                try:
                    connection.request("POST", "/score", body, {"content-type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException) as error:
                    resets.append(repr(error))
                    return
                (answered if answer.status == 200 else wrong).append(answer.status)
                if answer.headers.get("connection") == "close":
                    connection.close()

        callers = [threading.Thread(target=caller) for _ in range(CALLERS)]
        for thread in callers:
            thread.start()
        time.sleep(BEFORE_S)
        os.kill(one.pid, signal.SIGTERM)
        told = time.perf_counter()
        for thread in callers:
            thread.join(60)
        lasted = time.perf_counter() - told
    n = len(answered) + len(wrong) + len(resets)
    return [
        Row(f"SIGTERM, {CALLERS} callers: connections lost", str(len(resets)), "0", n, lasted, not resets),
        Row(f"SIGTERM, {CALLERS} callers: answers other than 200", str(len(wrong)), "0", n, lasted, not wrong),
        Row("SIGTERM: served on for", f"{lasted:.1f} s", f"{DRAIN_MS / 1000:g} s", n, lasted, lasted >= DRAIN_MS / 1000),
    ]  # fmt: skip


def prove_killed_worker(folder: Path = FOLDER) -> list[Row]:
    """One of two processes is killed: when another is there, and how many calls are lost."""
    with system(folder, CTR_WORKERS="2") as two:
        workers = _workers(two.pid)
        lost: list[str] = []
        answered: list[bytes] = []
        ended = threading.Event()

        def caller() -> None:
            while not ended.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", two.port, timeout=20)
                try:
                    connection.request("POST", "/score", two.requests[0], {"content-type": "application/json"})
                    answered.append(connection.getresponse().read())
                except (OSError, http.client.HTTPException) as error:
                    lost.append(repr(error))
                connection.close()

        callers = [threading.Thread(target=caller) for _ in range(4)]
        for thread in callers:
            thread.start()
        time.sleep(BEFORE_S)
        os.kill(min(workers), signal.SIGKILL)
        killed = time.perf_counter()
        while len(_workers(two.pid) - {min(workers)}) < 2 and time.perf_counter() - killed < 10:
            time.sleep(0.01)
        restarted = time.perf_counter() - killed
        time.sleep(3)
        ended.set()
        for thread in callers:
            thread.join()
    n = len(answered) + len(lost)
    return [
        Row("a process of two killed: another is started after", f"{restarted:.2f} s", f"{RESTARTED_S:g} s", 1, restarted,
            restarted <= RESTARTED_S),
        Row("a process of two killed: calls lost, of those in flight", str(len(lost)), f"{len(callers)}", n, BEFORE_S + 3,
            len(lost) <= len(callers)),
    ]  # fmt: skip


def _workers(parent: int) -> set[int]:
    children = psutil.Process(parent).children()
    return {child.pid for child in children if "spawn_main" in " ".join(child.cmdline())}
