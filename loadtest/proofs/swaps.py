"""Versions that change under load: no request fails, memory stays, the loop stalls so long."""

import json
import shutil
import threading
import time
import urllib.request
from statistics import median

import numpy as np

from loadtest.open_loop import Job, Outcome, offer_apart
from loadtest.proofs.system import ADMIN_KEY, MODEL, Row, System
from store.bundle import versions

PER_S, BETWEEN_S = 20.0, 0.5
GROWTH_MB = 100.0  # Triton's limit for its own test of this


def prove_swaps(system: System, swaps: int) -> list[Row]:
    """`swaps` times another version, half a second apart, under a constant load."""
    both = _two_versions(system)
    outcomes: list[Outcome] = []
    seconds = swaps * (BETWEEN_S + 1.0)
    load = threading.Thread(
        target=lambda: outcomes.append(offer_apart(Job(system.port, system.requests, PER_S, int(PER_S * seconds))))
    )
    before = _stalls(system, 3.0)
    load.start()
    memory, took, refused, stalls = [], [], 0, _Stalls(system)
    for i in range(swaps):
        started = time.perf_counter()
        refused += _load(system, both[i % 2]) != 200
        took.append(time.perf_counter() - started)
        memory.append(system.memory_mb())
        time.sleep(BETWEEN_S)
    during = stalls.end()
    load.join()
    (outcome,) = outcomes
    middle, end = median(memory[len(memory) // 2 :][: max(len(memory) // 4, 1)]), median(memory[-max(len(memory) // 4, 1) :])
    p99 = float(np.percentile(outcome.answer_ms[~outcome.wrong], 99))
    wrong = int(outcome.wrong.sum())
    return [
        Row("swaps: failed requests", str(wrong), "0", len(outcome.status), seconds, wrong == 0),
        Row("swaps: calls of load that failed", str(refused), "0", swaps, seconds, refused == 0),
        Row("swaps: time of a call of load, median", f"{median(took) * 1000:.0f} ms", "", swaps, seconds, True),
        Row("swaps: 99th percentile meanwhile", f"{p99:.1f} ms", "", len(outcome.status), seconds, True),
        Row("swaps: longest stall of the event loop (without)", f"{max(during):.0f} ms ({max(before):.0f} ms)", "", len(during),
            seconds, True),
        Row("swaps: memory, from the middle to the end", f"{end - middle:+.1f} MiB", f"{GROWTH_MB:g} MiB", swaps, seconds,
            end - middle <= GROWTH_MB),
    ]  # fmt: skip


def _two_versions(system: System) -> list[str]:
    """The version there is, and a copy of it under a later name."""
    folder = system.bundles / MODEL
    there = versions(folder)
    if len(there) < 2:
        later = f"{int(there[0][:4]) + 1}{there[0][4:]}"
        shutil.copytree(folder / there[0], folder / later)
        manifest = json.loads((folder / later / "manifest.json").read_text())
        (folder / later / "manifest.json").write_text(json.dumps(manifest | {"version": later}))
        there = versions(folder)
    return there[:2]


def _load(system: System, version: str) -> int:
    body = json.dumps({"parameters": {"version": version}}).encode()
    request = urllib.request.Request(
        f"{system.url}/v2/repository/models/{MODEL}/load", body, {"authorization": f"Bearer {ADMIN_KEY}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.status)


class _Stalls:
    """Calls of /v2/health/live, which the event loop answers itself: how long each took, in ms."""

    def __init__(self, system: System) -> None:
        self._url, self._ended, self._took = f"{system.url}/v2/health/live", threading.Event(), list[float]()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> list[float]:
        """What was measured."""
        self._ended.set()
        self._thread.join()
        return self._took

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            started = time.perf_counter()
            with urllib.request.urlopen(self._url, timeout=30):
                self._took.append((time.perf_counter() - started) * 1000)


def _stalls(system: System, seconds: float) -> list[float]:
    stalls = _Stalls(system)
    time.sleep(seconds)
    return stalls.end()
