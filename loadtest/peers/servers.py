"""The same ONNX models behind other servers, beside ours: one at a time, in turns, at one constant rate, and saturated.

All get the same bodies and must give the same scores, which is checked before each measurement. Ours looks up the candidates,
reads the user's behaviours from a store and searches them; the others look up the candidates and hold the rest in memory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from redis import Redis
from rich.console import Console

from loadtest.open_loop import NOT_DEGRADED, Job, offer_apart
from loadtest.peers.process import all_cpu_s, ask, peer_server
from loadtest.peers.requests import Asked, check_answer, fill_users, prepare
from loadtest.served.bench_setup import Serving, bundles_of, store_folder
from loadtest.served.bench_world import BenchWorld
from loadtest.speed.point import running_scorer
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics
from store.connection import connect
from store.embedded import embedded_store

MODELS: dict[str, dict[str, Any]] = {"din": {}, "mean_pool": {}}  # a graph of some milliseconds, and one of less than one
LIMITS = {"CTR_TIMEOUT_MS": "10000", "CTR_QUEUE_MS": "10000", "CTR_STORE_TIMEOUT_MS": "1000"}  # nobody else has any
SERVING = Serving("peer_servers", MODELS, LIMITS)
SYSTEMS = {  # name -> module that is run, None = ours
    "longtrail": None,
    "FastAPI": "loadtest.peers.apps.fastapi_app",
    "BentoML": "loadtest.peers.apps.bentoml_app",
    "LitServe": "loadtest.peers.apps.litserve_app",
    "Ray Serve": "loadtest.peers.apps.ray_app",
}
WORKERS = 2  # processes of the model; one with two threads for ours and FastAPI
AT_ONCE_PER_S = 1e5  # all are due at once: a connection sends the next as soon as it is free
LOG = Path("runs/bench/peers.log")

console = Console(stderr=True)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int = 3
    per_s: float = 20
    seconds: float = 12
    warm_up_s: float = 1.5
    idle_s: float = 2
    connections: int = 16  # few enough that none is idle for the 5 s after which some servers hang up
    saturating_connections: int = 4
    saturating: int = 500  # requests of it
    users: int = 20
    candidates: int = 500
    bodies: int = 100
    checked: int = 10


@dataclass(frozen=True)
class Point:
    """One system, one model, one round."""

    p50_ms: float
    p99_ms: float
    cpu_ms: float  # of all processes of the system, per request
    errors: int
    saturated_per_s: float  # answers a second while some connections always wait for one
    idle_cores: float  # that the system uses when nobody asks
    processes: int
    difference: float  # largest of a checked score


def measure_servers(world: BenchWorld, python: Path, folder: Path, effort: Effort = Effort()) -> list[dict[str, Any]]:
    """A row for each system and model: medians of the rounds, and ratios to ours.

    Raises:
        ValueError: a system does not start, or gives other scores than ours.
    """
    made, served = bundles_of(world, SERVING, folder), folder / "in_memory"
    loaded = Bundles(made, "", "", Loading("cpu", 1), Metrics()).all
    asked = prepare(world, loaded, served, effort.users, effort.candidates, effort.bodies, effort.checked)
    points: dict[tuple[str, str], list[Point]] = {(system, one.model): [] for one in asked for system in SYSTEMS}
    with embedded_store(store_folder(world, folder), borrow=False) as url:
        redis: Redis = connect(url)
        fill_users(world, redis, effort.users)
        redis.close()
        for round_ in range(effort.rounds):
            for system in SYSTEMS:
                with _running(system, python, served, made, url, asked[0].bodies[0]) as running:
                    differences = [max(_check(system, running.port, one)) for one in asked]
                    idle = _idle(running.used, effort.idle_s)
                    for one, difference in zip(asked, differences, strict=True):
                        point = _point(running, one, effort, idle, difference)
                        points[system, one.model].append(point)
                        console.print(f"{round_ + 1} {system}, {one.model}: {_said(point)}", highlight=False, soft_wrap=True)
    return _rows(points)


@dataclass(frozen=True)
class Running:
    """A system that answers."""

    port: int
    used: Callable[[], float]  # CPU seconds of its processes so far; ours counts the store among them
    processes: Callable[[], int]
    whole: bytes  # what an answer has in it


@contextmanager
def _running(system: str, python: Path, served: Path, bundles: Path, url: str, body: bytes) -> Iterator[Running]:
    module = SYSTEMS[system]
    if module is None:
        redis: Redis = connect(url)
        store_pid = int(redis.info("server")["process_id"])
        redis.close()
        with running_scorer(SERVING, bundles, url) as scorer:
            yield Running(scorer.port, lambda: all_cpu_s(scorer.pid) + all_cpu_s(store_pid), lambda: 2, NOT_DEGRADED)
    else:
        with peer_server(python, module, served, WORKERS, body, LOG) as server:
            yield Running(server.port, server.cpu_s, lambda: len(server.processes), b'"scores"')


def _check(system: str, port: int, asked: Asked) -> list[float]:
    return [check_answer(system, asked, i, ask(port, asked.bodies[i])) for i in range(len(asked.expected))]


def _idle(used: Callable[[], float], seconds: float) -> float:
    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


def _point(running: Running, asked: Asked, effort: Effort, idle: float, difference: float) -> Point:
    def job(per_s: float, count: float, **more: Any) -> Job:
        more = {"connections": effort.connections, **more}
        return Job(running.port, asked.bodies, per_s, max(int(count), 1), whole=running.whole, **more)

    offer_apart(job(effort.per_s, effort.per_s * effort.warm_up_s))
    before = running.used()
    outcome = offer_apart(job(effort.per_s, effort.per_s * effort.seconds))
    cpu_ms = (running.used() - before) * 1000 / len(outcome.status)
    p50, p99 = np.percentile(outcome.latency_ms, (50, 99), method="higher")
    many = job(AT_ONCE_PER_S, effort.saturating, connections=effort.saturating_connections)
    saturated = offer_apart(many)
    answered_ms = saturated.answer_ms[~saturated.wrong]
    return Point(
        p50_ms=round(float(p50), 2), p99_ms=round(float(p99), 2), cpu_ms=round(cpu_ms, 2), errors=int(outcome.wrong.sum()),
        saturated_per_s=round(len(answered_ms) / float(answered_ms.max()) * 1000, 1) if len(answered_ms) else 0.0,
        idle_cores=round(idle, 3), processes=running.processes(), difference=difference,
    )  # fmt: skip


def _said(point: Point) -> str:
    times = f"p50 {point.p50_ms}, p99 {point.p99_ms}, CPU {point.cpu_ms} ms, {point.saturated_per_s}/s saturated"
    return f"{times}, idle {point.idle_cores} cores, {point.processes} processes, errors {point.errors}"


def _rows(points: dict[tuple[str, str], list[Point]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for (system, model), measured in points.items():
        ours = points["longtrail", model]
        columns = [asdict(point) for point in measured]
        row: dict[str, Any] = {name: median(column[name] for column in columns) for name in columns[0]}
        row["errors"] = sum(point.errors for point in measured)
        times = {}
        for name in ("p50_ms", "p99_ms", "cpu_ms"):
            pairs = zip((column[name] for column in columns), (asdict(point)[name] for point in ours), strict=True)
            times[name] = round(median(theirs / own for theirs, own in pairs), 2)
        rows.append({"system": system, "model": model, **row, "times_ours": times, "rounds": columns})
    return rows
