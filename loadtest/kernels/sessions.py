"""onnxruntime's arena, memory pattern, threads and spinning: each beside what is served, on the same inputs of whole graphs.

A run every `PAUSE_S`, as requests come: what a pool of threads does meanwhile, waiting for work, counts as the run's CPU.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from loadtest.kernels.turns import Turn, timed
from loadtest.measured_on import table
from loadtest.peers.forward_work import write_request
from loadtest.served.bench_setup import Serving, bundles_of
from loadtest.served.bench_world import BenchWorld
from service.behaviours import Fetched
from service.cpu_session import session_options
from service.device import CPU
from service.search import search
from store.bundle import GRAPH, Bundle, versions

SERVING = Serving("graphs", {"mind": {}, "dsin": {}, "dien": {}}, {})  # models that onnxruntime computes alone
BEHAVIOURS, CANDIDATES, PAUSE_S = 1_000, 500, 0.01
RUNS = 5  # of a session, in each round

Change = Callable[[ort.SessionOptions], None]


def _nothing(options: ort.SessionOptions) -> None: ...


def _without_arena(options: ort.SessionOptions) -> None:
    options.enable_cpu_mem_arena = False


def _memory_pattern(options: ort.SessionOptions) -> None:
    options.enable_mem_pattern = True


def _two_threads(options: ort.SessionOptions) -> None:
    options.intra_op_num_threads = 2


def _two_that_spin(options: ort.SessionOptions) -> None:
    _two_threads(options)
    ort.set_default_logger_severity(3)  # else it warns that the entry is there already
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")


SERVED = "as served"
CHANGES: dict[str, Change] = {  # of what is served with one thread
    SERVED: _nothing,
    "no arena": _without_arena,
    "memory pattern": _memory_pattern,
    "two threads": _two_threads,
    "two threads that spin": _two_that_spin,
}


def session_rows(world: BenchWorld, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Measure. Bundles are made in `folder`. Cost: half a minute, and as long once."""
    bundles = bundles_of(world, SERVING, folder)
    found = []
    for model in SERVING.models:
        bundle = Bundle(bundles / model / versions(bundles / model)[-1])
        found += _rows(bundle, _inputs(world, bundle), rounds)
    return found


def session_page(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown."""
    names = ["model", "session", "cpu_ms", "wall_ms", "times_cpu", "times_wall"]
    return (
        "## Sessions of onnxruntime\n\n"
        f"Whole graphs, {CANDIDATES} candidates, a run every {PAUSE_S * 1000:g} ms, the pause in `cpu ms`; `times`: medians of "
        "the ratios to what is served (one thread, an arena, no memory pattern, no spinning) in the same round.\n\n"
        + table([name.replace("_", " ") for name in names], [[str(row[name]) for name in names] for row in rows])
    )


def _inputs(world: BenchWorld, bundle: Bundle) -> dict[str, NDArray[Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        call, life = write_request(world, bundle, BEHAVIOURS, CANDIDATES, Path(scratch))
    return {**bundle.tables, **search(call, Fetched(life), bundle).inputs}


def _rows(bundle: Bundle, inputs: dict[str, NDArray[Any]], rounds: int) -> list[dict[str, Any]]:
    turns: dict[str, list[Turn]] = {name: [] for name in CHANGES}
    for _ in track(range(rounds), f"sessions of {bundle.manifest.model}", console=Console(stderr=True)):
        for name, change in CHANGES.items():
            turns[name].append(_block(bundle, inputs, change))
    return [{"model": bundle.manifest.model, "session": name, **_beside(turns[SERVED], found)} for name, found in turns.items()]


def _block(bundle: Bundle, inputs: dict[str, NDArray[Any]], change: Change) -> Turn:
    """Medians of some runs of a session that ends afterwards: its threads would spin beside the others' runs."""
    options = session_options(1)
    change(options)
    session = ort.InferenceSession(bundle.folder / GRAPH, options, providers=[CPU])
    fed = {node.name: inputs[node.name] for node in session.get_inputs()}
    cpu_ms, wall_ms = zip(*(timed(lambda: session.run(["logit"], fed), PAUSE_S) for _ in range(RUNS + 1)), strict=True)
    return median(cpu_ms[1:]), median(wall_ms[1:])  # the first fills the arena


def _beside(served: list[Turn], found: list[Turn]) -> dict[str, float]:
    """Medians of a session's times, and of their ratios to those of what is served in the same round."""
    row = {}
    for i, name in enumerate(("cpu", "wall")):
        row[f"{name}_ms"] = round(median(turn[i] for turn in found), 2)
        row[f"times_{name}"] = round(median(turn[i] / base[i] for turn, base in zip(found, served, strict=True)), 2)
    return row
