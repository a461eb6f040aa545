"""Versions that change under load: no request fails, memory stays, the event loop stalls so long."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from statistics import median

import numpy as np
from rich.console import Console

from loadtest.open_loop import Job, Outcome, offer_apart
from loadtest.proofs.system import ADMIN_KEY, MODEL, Row, System
from store.bundle import versions

IN_TURN = 3  # versions: one answers, the one before stays loaded, the third has to be loaded
PER_S, BETWEEN_S, BEFORE_S = 20.0, 0.5, 4.0
SPARE = 1.5  # the load lasts so much longer than the swaps are thought to: they must not outlast it
GROWTH_MB = 100.0  # Triton's limit for its own test of this

console = Console(stderr=True)


def prove_swaps(system: System, swaps: int) -> list[Row]:
    """`swaps` times another version, half a second apart, under a constant load."""
    names = _versions(system)
    alone_s = median([_timed_load(system, names[i % IN_TURN])[0] for i in range(1, 6)])
    calm = offer_apart(Job(system.port, system.requests, PER_S, int(PER_S * BEFORE_S)))
    still = _Stalls(system)
    time.sleep(BEFORE_S)
    before_ms = still.end()
    count = int(PER_S * SPARE * (swaps * (BETWEEN_S + 2 * alone_s) + 5))
    outcomes: list[Outcome] = []
    load = threading.Thread(target=lambda: outcomes.append(offer_apart(Job(system.port, system.requests, PER_S, count))))
    load.start()
    memory_mb: list[float] = []
    took_s: list[float] = []
    refused, stalls, started = 0, _Stalls(system), time.perf_counter()
    for i in range(swaps):
        seconds, status = _timed_load(system, names[i % IN_TURN])
        took_s.append(seconds)
        refused += status != 200
        memory_mb.append(system.memory_mb())
        if (i + 1) % 10 == 0:
            console.print(f"swaps: {i + 1}/{swaps}, {seconds * 1000:.0f} ms, {memory_mb[-1]:.0f} MiB", highlight=False)
        time.sleep(BETWEEN_S)
    lasted, during_ms = time.perf_counter() - started, stalls.end()
    load.join()
    p99 = [float(np.percentile(one.latency_ms[: int(PER_S * lasted)], 99)) for one in (calm, outcomes[0])]
    wrong = int(outcomes[0].wrong.sum())
    return swap_rows(swaps, lasted, count, wrong, refused, took_s, memory_mb, (p99[0], p99[1]), (max(before_ms), max(during_ms)))


def swap_rows(
    swaps: int, seconds: float, count: int, wrong: int, refused: int, took_s: list[float], memory_mb: list[float],
    p99_ms: tuple[float, float], stall_ms: tuple[float, float],
) -> list[Row]:  # fmt: skip
    """Verdicts; of pairs the first was measured before the swaps."""
    grown = growth_mb(memory_mb)
    return [
        Row("swaps: failed requests", str(wrong), "0", count, seconds, wrong == 0),
        Row("swaps: calls of load that failed", str(refused), "0", swaps, seconds, refused == 0),
        Row("swaps: time of a call of load, median", f"{median(took_s) * 1000:.0f} ms", "", swaps, seconds, True),
        Row("swaps: p99 of requests before, during", f"{p99_ms[0]:.1f}, {p99_ms[1]:.1f} ms", "", int(PER_S * seconds),
            seconds, True),
        Row("swaps: longest stall of the event loop before, during", f"{stall_ms[0]:.0f}, {stall_ms[1]:.0f} ms", "", swaps,
            seconds, True),
        Row("swaps: memory, from the middle to the end", f"{grown:+.1f} MiB", f"{GROWTH_MB:g} MiB", swaps, seconds,
            grown <= GROWTH_MB),
    ]  # fmt: skip


def growth_mb(memory_mb: list[float]) -> float:
    """From the third quarter of the swaps to the last, by medians: a swap holds both versions for a moment."""
    quarter = max(len(memory_mb) // 4, 1)
    return median(memory_mb[-quarter:]) - median(memory_mb[-2 * quarter : -quarter] or memory_mb[:1])


def _versions(system: System) -> list[str]:
    """The version there is, and copies of it under later names."""
    folder = system.bundles / MODEL
    first = versions(folder)[0]
    names = [first, *(f"{int(first[:4]) + i}{first[4:]}" for i in range(1, IN_TURN))]
    for name in names:
        if not (folder / name).is_dir():
            shutil.copytree(folder / first, folder / name)
            manifest = json.loads((folder / name / "manifest.json").read_text())
            (folder / name / "manifest.json").write_text(json.dumps(manifest | {"version": name}))
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
