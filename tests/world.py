"""A small real world: complete_journey, every model trained for one day's impressions, bundled and loaded."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        folder: of all processes of a run of tests; what one has begun another waits for.
    """
    once(folder, "data", lambda: prepare(DATA, into=folder / "data"))
    wait_for(folder, ["data"])
    dataset, runs, bundles = Dataset.open(folder / "data" / DATA), folder / "runs", folder / "bundles"
    for name in list_models():
        once(
            folder, name, lambda name=name: make_bundle(dataset, train(dataset, name, TrainSettings(days=1), runs=runs), bundles)
        )
    wait_for(folder, list_models())
    load(Prepared.open(folder / "data" / DATA), store_url, lambda one: None)
    return World(folder, dataset, {name: Run.open(DATA, name, dataset, runs) for name in list_models()}, bundles, store_url)


def once(folder: Path, name: str, make: Callable[[], object]) -> None:
    """Make it, if no process has begun to."""
    try:
        (folder / f"{name}.begun").touch(exist_ok=False)
    except FileExistsError:
        return
    try:
        make()
    except BaseException:
        (folder / f"{name}.failed").touch()
        raise
    (folder / f"{name}.made").touch()


def wait_for(folder: Path, names: list[str], limit_s: float = 150) -> None:
    """Return once all are made, by whichever process; an error if one failed, or has not made them by then."""
    end = time.monotonic() + limit_s
    while missing := [name for name in names if not (folder / f"{name}.made").exists()]:
        failed = [name for name in missing if (folder / f"{name}.failed").exists()]
        if failed or time.monotonic() > end:
            raise AssertionError(
                f"{folder}: another process {'failed to make' if failed else 'is still making'} {failed or missing}"
            )
        time.sleep(0.1)


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
