"""A small real world: complete_journey, every model trained for one day's impressions, bundled and loaded."""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import httpx

from export.bundle import make_bundle
from export.data.dataset import Dataset
from export.data.prepare import prepare
from export.models import list_models
from export.train import Run, TrainSettings, train
from store.load import Prepared, load
from tests.store.servers import free_port

DATA = "complete_journey"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class World:
    """What a trained and loaded installation has."""

    folder: Path
    dataset: Dataset
    runs: dict[str, Run]
    bundles: Path
    store_url: str


def build_world(folder: Path, store_url: str) -> World:
    """Prepare, train, bundle and load. Cost: two minutes; one of two processes that do it together.

    Args:
        folder: of all processes of a run of tests, which share the models out among them.
    """
    once(folder / "data.made", lambda: prepare(DATA, into=folder / "data"))
    dataset, runs, bundles = Dataset.open(folder / "data" / DATA), folder / "runs", folder / "bundles"

    def make(name: str) -> None:
        make_bundle(dataset, train(dataset, name, TrainSettings(days=1), runs=runs), bundles)

    for wait in (False, True):  # first what no other process is making
        for name in list_models():
            once(folder / f"{name}.made", partial(make, name), wait)
    load(Prepared.open(folder / "data" / DATA), store_url, lambda one: None)
    return World(folder, dataset, {name: Run.open(DATA, name, dataset, runs) for name in list_models()}, bundles, store_url)


def once(mark: Path, make: Callable[[], object], wait: bool = True) -> None:
    """Make it and leave the mark, unless it is there. While another process makes it: wait, or leave it to that one."""
    with mark.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return
        if not mark.exists():
            make()
            mark.touch()


@contextmanager
def scorer_process(bundles: Path, redis_url: str, **settings: object) -> Iterator[httpx.Client]:
    """A scorer of its own process, as a user starts it; yields a client. `settings` are CTR_ names in lower case."""
    with (
        running_scorer(bundles, redis_url, **settings) as (_, port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as client,
    ):
        yield client


@contextmanager
def running_scorer(
    bundles: Path, redis_url: str, **settings: object
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:  # fmt: skip
    """The same; yields the process and its port.

    Time limits are generous by default: a busy machine must not turn a parity test into a degraded answer, or a 429.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    values = {"bundles": bundles, "redis_url": redis_url, "port": port, "store_timeout_ms": 5000, "timeout_ms": 30_000}
    values |= {"queue_ms": 60_000, "drain_ms": 0} | settings
    environment |= {f"CTR_{name.upper()}": str(value) for name, value in values.items()}
    with tempfile.TemporaryFile("w+") as log:  # a pipe that nobody reads would fill, and hold the scorer up
        process = subprocess.Popen([sys.executable, "-m", "service"], cwd=ROOT, env=environment, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as client:
                wait_until_live(client, process, log)
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_live(client: httpx.Client, process: "subprocess.Popen[bytes]", log: TextIO, limit_s: float = 90) -> None:
    """Return once the process answers; fail with what it logged if it ends instead."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if process.poll() is not None:
            log.seek(0)
            raise AssertionError(f"the scorer ended with {process.returncode}: {log.read()}")
        try:
            if client.get("/v2/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the scorer does not answer after {limit_s} s")
