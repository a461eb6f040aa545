"""What is put to the proof: a scorer over a store behind a proxy that can fail, with users of a known length."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtest.open_loop import Job, offer
from loadtest.proofs.fault_proxy import NO_FAULT, Fault, FaultProxy, fault_proxy
from loadtest.proofs.proved_store import ProvedStore
from loadtest.served.bench_setup import Serving, bundles_of, fill_store
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.service_process import service_process
from loadtest.speed.work import Work, bodies

FOLDER = Path("runs/prove")
SIZES = Sizes(items=20_000, categories=300, life_categories=100)
MODEL, LIFE, USERS, CANDIDATES = "sim_hard", 1_000, 40, 500
FUZZED = "mean_pool"  # calls that are made up are aimed at it: the other model serves on when it is unloaded
SERVING = Serving("proved", {MODEL: {}, FUZZED: {}}, {})
ADMIN_KEY = "prove"
KNEE_S, KNEE_CALLERS = 4.0, 4
# A busy machine is no fault; CROWDED: nor are more callers than there are threads.
PATIENT = {"CTR_STORE_TIMEOUT_MS": "100", "CTR_STORE_CONNECT_TIMEOUT_MS": "100", "CTR_TIMEOUT_MS": "1000", "CTR_QUEUE_MS": "1000"}
CROWDED = PATIENT | {"CTR_TIMEOUT_MS": "10000", "CTR_QUEUE_MS": "60000", "CTR_SLOW_MS": "0"}


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    value: str
    wanted: str
    n: int
    seconds: float
    met: bool


@dataclass(frozen=True)
class System:
    """A running scorer, and everything around it."""

    pid: int
    port: int
    proxy: FaultProxy
    store: ProvedStore
    bundles: Path
    requests: Sequence[bytes]

    @property
    def url(self) -> str:
        """Of the scorer."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Scorer and store on the first core alone, so that a generator on another one is not what is measured."""
        cores = sorted(os.sched_getaffinity(0))
        pids = (self.pid, self.store.pid)
        _pin(pids, cores[:1])
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, own)
            _pin(pids, cores)

    @contextmanager
    def killed_store(self) -> Iterator[None]:
        """SIGKILL; at the end it is started again, and the proxy leads to it."""
        self.store.kill()
        try:
            yield
        finally:
            self.store.start()
            self.proxy.lead_to(self.store.url)

    def memory_mb(self) -> float:
        """Resident memory of the scorer."""
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20


@contextmanager
def system(
    folder: Path, settings: Mapping[str, str], module: str = "service", direct: bool = False, fault: Fault = NO_FAULT,
    serving: Serving = SERVING,
) -> Iterator[System]:  # fmt: skip
    """Made once in `folder`, used again after that.

    `settings`: CTR_ variables; `module`: what is run; `direct`: without the proxy, where speed is
    measured; `fault`: what the proxy does while the scorer starts, and until another is set; `serving`: the
    models, of which MODEL is one.
    """
    world = BenchWorld(SIZES)
    bundles = bundles_of(world, serving, folder)
    folder.mkdir(parents=True, exist_ok=True)
    store = ProvedStore(folder / "store")
    try:
        store.start()
        redis = store.client()
        fill_store(world, redis, {LIFE: USERS}, [])
        redis.close()
        work = Work("tree", MODEL, LIFE, 1, life=LIFE, categories=50, candidates=CANDIDATES, serving=SERVING)
        with (
            fault_proxy(store.url, fault) as proxy,
            service_process(
                "", "/v2/health/ready", folder / "scorer.log", module=module, CTR_BUNDLES=str(bundles),
                CTR_REDIS_URL=store.url if direct else proxy.url, CTR_ADMIN_API_KEY=ADMIN_KEY, CTR_MODEL=MODEL,
                **settings,
            ) as (process, port),
        ):  # fmt: skip
            yield System(process.pid, port, proxy, store, bundles, bodies(world, work, USERS))
    finally:
        store.stop()


def knee_per_s(one: System, seconds: float = KNEE_S, callers: int = KNEE_CALLERS) -> float:
    """Answers a second where so many callers ask as fast as they are answered."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        outcome = offer(Job(one.port, one.requests, 1e6, 200, connections=callers))
        count += int((outcome.status == 200).sum())
    return count / (time.perf_counter() - started)


def workers_of(parent: int) -> set[int]:
    """Processes that run the scorer; not multiprocessing's own, nor one that is dead."""
    workers = set()
    for child in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                workers.add(child.pid)
    return workers


def _pin(pids: Sequence[int], cores: Sequence[int]) -> None:
    """All threads of some processes."""
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, cores)
