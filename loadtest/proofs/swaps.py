"""Versions that change under load: no request fails, memory stays, the event loop stalls so long."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from loadtest.open_loop import Job, Outcome, offer_apart
from loadtest.proofs.system import ADMIN_KEY, MODEL, Row, System
from store.bundle import GRAPH, versions

IN_TURN = 3  # versions: one answers, the one before stays loaded, the third has to be loaded
PER_S, BETWEEN_S, BEFORE_S = 20.0, 0.5, 4.0
SPARE = 1.5  # the load lasts so much longer than the swaps are thought to: they must not outlast it
DAMAGED_EVERY = 5  # swaps there is a call for a version that cannot be loaded
GROWTH = 0.2  # of a bundle, of memory a swap: what a version leaves behind would be a whole one

console = Console(stderr=True)


@dataclass
class Swapped:
    """What was seen of versions that changed."""

    bundle_mb: float
    took_s: list[float] = field(default_factory=list)  # of calls of load
    failed: int = 0  # of those
    not_refused: int = 0  # of calls for the damaged version
    damaged: int = 0
    memory_mb: list[float] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)  # versions of an answer after each call
    strange: int = 0  # of those, by another version than the one that should be there
    seconds: float = 0.0
    outlasted: bool = False  # by the load
    wrong: int = 0  # requests of the load
    n: int = 0
    p99_ms: tuple[float, float] = (0.0, 0.0)  # before, during
    stall_ms: tuple[float, float] = (0.0, 0.0)


def prove_swaps(system: System, swaps: int) -> list[Row]:
    """`swaps` times another version, half a second apart, under a constant load; now and then one that is damaged."""
    names = _versions(system)
    folder = system.bundles / MODEL
    seen = Swapped(sum(path.stat().st_size for path in (folder / names[0]).iterdir()) / 2**20)
    alone_s = median([_timed_load(system, names[i % IN_TURN])[0] for i in range(1, 6)])
    calm = offer_apart(Job(system.port, system.requests, PER_S, int(PER_S * BEFORE_S)))
    still = _Stalls(system)
    time.sleep(BEFORE_S)
    before_ms = still.end()
    seen.n = int(PER_S * SPARE * (swaps * (BETWEEN_S + 2 * alone_s) + 5))
    outcomes: list[Outcome] = []
    load = threading.Thread(target=lambda: outcomes.append(offer_apart(Job(system.port, system.requests, PER_S, seen.n))))
    load.start()
    stalls, started = _Stalls(system), time.perf_counter()
    with _damaged(folder, names) as damaged:
        for i in range(swaps):
            _swap(system, names[i % IN_TURN], seen)
            if i % DAMAGED_EVERY == 0:
                seen.damaged += 1
                seen.not_refused += not 400 <= _timed_load(system, damaged)[1] < 500
                _look(system, names[i % IN_TURN], seen)
            if (i + 1) % 10 == 0:
                console.print(
                    f"swaps: {i + 1}/{swaps}, {seen.took_s[-1] * 1000:.0f} ms, {seen.memory_mb[-1]:.0f} MiB", highlight=False
                )
            time.sleep(BETWEEN_S)
    seen.seconds, during_ms, seen.outlasted = time.perf_counter() - started, stalls.end(), load.is_alive()
    load.join()
    during = outcomes[0].latency_ms[: int(PER_S * seen.seconds)]
    seen.p99_ms = (float(np.percentile(calm.latency_ms, 99)), float(np.percentile(during, 99)))
    seen.wrong, seen.stall_ms = int(outcomes[0].wrong.sum()), (max(before_ms), max(during_ms))
    return swap_rows(seen)


def swap_rows(seen: Swapped) -> list[Row]:
    """Verdicts."""
    swaps, seconds = len(seen.took_s), seen.seconds
    grown, limit = growth_mb(seen.memory_mb), GROWTH * seen.bundle_mb
    return [
        Row("swaps: failed requests", str(seen.wrong), "0", seen.n, seconds, seen.wrong == 0),
        Row("swaps: the load outlasted them", "yes" if seen.outlasted else "no", "yes", seen.n, seconds, seen.outlasted),
        Row("swaps: calls of load that failed", str(seen.failed), "0", swaps, seconds, seen.failed == 0),
        Row("swaps: damaged versions that were not refused", str(seen.not_refused), "0", seen.damaged, seconds,
            not seen.not_refused),
        Row("swaps: answers by another version than the last that was loaded, and versions that answered",
            f"{seen.strange}, {len(seen.answered)}", f"0, {IN_TURN}", seen.answered.total(), seconds,
            not seen.strange and len(seen.answered) == IN_TURN),
        Row("swaps: time of a call of load, median", f"{median(seen.took_s) * 1000:.0f} ms", "", swaps, seconds, True),
        Row("swaps: p99 of requests before, during", f"{seen.p99_ms[0]:.1f}, {seen.p99_ms[1]:.1f} ms", "", int(PER_S * seconds),
            seconds, True),
        Row("swaps: longest stall of the event loop before, during", f"{seen.stall_ms[0]:.0f}, {seen.stall_ms[1]:.0f} ms", "",
            swaps, seconds, True),
        Row("swaps: memory a swap, in the second half", f"{grown:+.2f} MiB", f"{limit:.2f} MiB, {GROWTH:g} of a bundle", swaps,
            seconds, grown <= limit),
    ]  # fmt: skip


def growth_mb(memory_mb: list[float]) -> float:
    """A swap, from the third quarter of the swaps to the last, by medians: a swap holds both versions for a moment."""
    quarter = max(len(memory_mb) // 4, 1)
    return (median(memory_mb[-quarter:]) - median(memory_mb[-2 * quarter : -quarter] or memory_mb[:1])) / quarter


def _swap(system: System, version: str, seen: Swapped) -> None:
    seconds, status = _timed_load(system, version)
    seen.took_s.append(seconds)
    seen.failed += status != 200
    seen.memory_mb.append(system.memory_mb())
    _look(system, version, seen)


def _look(system: System, version: str, seen: Swapped) -> None:
    """Which version answers."""
    request = urllib.request.Request(f"{system.url}/score", system.requests[0], {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        answered = str(json.load(answer)["version"])
    seen.answered[answered] += 1
    seen.strange += answered != version


@contextmanager
def _damaged(folder: Path, names: list[str]) -> Iterator[str]:
    """A later version, whose graph ends too early."""
    name = f"{int(names[-1][:4]) + 1}{names[-1][4:]}"
    _copy(folder, names[0], name)
    graph = folder / name / GRAPH
    graph.write_bytes(graph.read_bytes()[:-9])
    try:
        yield name
    finally:
        shutil.rmtree(folder / name)


def _copy(folder: Path, version: str, name: str) -> None:
    """The same bundle as another version."""
    shutil.copytree(folder / version, folder / name)
    manifest = json.loads((folder / name / "manifest.json").read_text())
    (folder / name / "manifest.json").write_text(json.dumps(manifest | {"version": name}))


def _versions(system: System) -> list[str]:
    """The version there is, and copies of it under later names."""
    folder = system.bundles / MODEL
    first = versions(folder)[0]
    names = [first, *(f"{int(first[:4]) + i}{first[4:]}" for i in range(1, IN_TURN))]
    for name in names:
        if not (folder / name).is_dir():
            _copy(folder, first, name)
    return names


def _timed_load(system: System, version: str) -> tuple[float, int]:
    """Seconds and status of a call of load."""
    body = json.dumps({"parameters": {"version": version}}).encode()
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    started = time.perf_counter()
    try:
        url = f"{system.url}/v2/repository/models/{MODEL}/load"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    return time.perf_counter() - started, status


class _Stalls:
    """Calls of /v2/health/live, which the event loop answers itself: how long each took, in ms."""

    def __init__(self, system: System) -> None:
        self._url, self._ended, self._took_ms = f"{system.url}/v2/health/live", threading.Event(), list[float]()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> list[float]:
        """What was measured."""
        self._ended.set()
        self._thread.join()
        return self._took_ms

    def _run(self) -> None:
        while not self._ended.wait(0.01):
            started = time.perf_counter()
            with urllib.request.urlopen(self._url, timeout=30):
                self._took_ms.append((time.perf_counter() - started) * 1000)
