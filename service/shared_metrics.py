"""Metrics of several processes behind one address, added up: whichever of them answers /metrics answers for all.

It is prometheus_client's multiprocess mode: every process keeps its numbers in files of one folder, and a scrape adds them up.
Counters and histograms of a process that died stay in the sum, which may not fall; its gauges go.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the library's name; read when it is first imported, so before processes are started


@contextmanager
def shared(several: bool) -> Iterator[None]:
    """While this lasts, processes that are started share their metrics, if there are `several`."""
    if not several:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="longtrail-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def exposition(registry: CollectorRegistry) -> bytes:
    """What /metrics answers: one process's registry, or what all of them have in the folder they share."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return generate_latest(registry)
    _forget_the_dead(Path(folder))
    together = CollectorRegistry()
    MultiProcessCollector(together, folder)  # type: ignore[no-untyped-call]
    return generate_latest(together)


def remove(gauge: Gauge, *labels: str) -> None:
    """Take one labelled value away; among several processes it becomes 0, because files only grow."""
    if FOLDER in os.environ:
        gauge.labels(*labels).set(0)
    else:
        gauge.remove(*labels)


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of processes that are gone: one that was killed with calls in flight would count them for ever."""
    for pid in {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
