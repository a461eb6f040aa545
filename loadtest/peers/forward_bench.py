"""One user x 500 candidates in process: ours beside FuxiCTR's models and beside a plain export, in turns.

Each contender is a process of its own. The tiled graph must give our scores before anything is timed; FuxiCTR's models have
other weights, and the same sizes.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from rich.console import Console

from export.data.dataset import Dataset
from export.models import build
from export.models.contract import CTRModel
from export.run import as_config, shape_of
from export.start import BUNDLED_WEIGHTS
from loadtest.peers.environment import ROOT
from loadtest.peers.forward_tiled import GRAPH, feed
from loadtest.peers.forward_work import WORKS, ForwardWork, commands, ours_once, write_request, write_zoo
from loadtest.peers.tiled_graph import export_tiled
from loadtest.peers.turns import contender
from loadtest.served.bench_setup import bundles_of
from loadtest.served.bench_world import BenchWorld
from service.loading import LoadedBundle, Loading
from store.bundle import versions
from store.types import Floats

THREADS = (1, 2)
WARM_UP = 1  # turns that are not counted: arenas grow
PAUSE_S = 0.05  # between turns: threads that wait for more work spin for a while
LOG = Path("runs/bench/forward.log")
TOLERANCE = 1e-5  # of a score
OTHERS = 0.01  # share of candidates beyond it: sums in another order may change the 100th behaviour

console = Console(stderr=True)


def measure_forwards(
    world: BenchWorld, peer_python: Path, folder: Path, candidates: int = 500, works: list[ForwardWork] = WORKS
) -> list[dict[str, Any]]:
    """A row for each work, number of threads and contender.

    Raises:
        ValueError: a contender fails, or the plain export gives other scores than ours.
    """
    rows = []
    with TemporaryDirectory() as temporary:
        dataset = world.dataset(Path(temporary))
        for work in works:
            own = Path(temporary) / f"{work.model}-{work.behaviours}"
            own.mkdir()
            bundle = _newest(bundles_of(world, work.serving, folder) / work.model)
            _prepare(world, dataset, work, Loading("cpu", 1).load(bundle), candidates, own)
            for threads in THREADS:
                rows += _in_turns(work, threads, commands(work, bundle, own, peer_python, threads))
    return rows


def _newest(model_folder: Path) -> Path:
    return model_folder / versions(model_folder)[-1]


def _prepare(world: BenchWorld, dataset: Dataset, work: ForwardWork, loaded: LoadedBundle, candidates: int, own: Path) -> None:
    call, life = write_request(world, loaded.bundle, work.behaviours, candidates, own)
    write_zoo(dataset, work, call, life, own)
    if work.tiled:
        inputs, scores = ours_once(loaded, call, life)
        vectors = np.asarray(loaded.bundle.tables["item_vector"])
        export_tiled(_model_of(world, loaded), work.model, vectors, inputs, life, call.at, own)
        _check(work, own, scores)


def _model_of(world: BenchWorld, loaded: LoadedBundle) -> CTRModel:
    """The torch model that a bundle was made of."""
    manifest = loaded.bundle.manifest
    config = as_config(manifest.training["config"])
    model = build(manifest.model, shape_of(world.items, world.schema), **config)
    with np.load(loaded.bundle.folder / BUNDLED_WEIGHTS) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model.eval()


def _check(work: ForwardWork, own: Path, scores: Floats) -> None:
    session = onnxruntime.InferenceSession(own / GRAPH, providers=["CPUExecutionProvider"])
    logit = session.run(["logit"], feed(own))[0]
    difference = np.abs(1 / (1 + np.exp(-logit)) - scores)
    console.print(
        f"{work.model}, {work.behaviours:,}: plain export differs by {difference.max():.2g} at most",
        highlight=False,
        soft_wrap=True,
    )
    if not (difference > TOLERANCE).mean() <= OTHERS:
        raise ValueError(
            f"{work.model}: the plain export differs by {difference.max():.2g}, {(difference > TOLERANCE).sum()} candidates by "
            f"more than {TOLERANCE:g}; not measured"
        )


def _in_turns(work: ForwardWork, threads: int, commands: Mapping[str, list[str | Path]]) -> list[dict[str, Any]]:
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    with ExitStack() as running:
        children = [running.enter_context(contender(name, command, environment, LOG)) for name, command in commands.items()]
        for _ in range(WARM_UP + work.repeats):
            for child in children:
                time.sleep(PAUSE_S)
                turns[child.name].append(child.turn())
        rows = [
            {
                "model": work.model, "behaviours": work.behaviours, "threads": threads, "contender": child.name,
                "repeats": work.repeats, "loaded_mb": round(child.loaded_mb),
                "peak_mb": round(turns[child.name][-1]["peak_mb"]),
                **{what: round(_middle(turns[child.name], what), 2) for what in ("ms", "cpu_ms")},
                **{f"times_ours_{what}": round(_times(turns, child.name, what), 2) for what in ("ms", "cpu_ms")},
            }
            for child in children
        ]  # fmt: skip
    for row in rows:
        console.print(", ".join(f"{name} {value}" for name, value in row.items()), highlight=False, soft_wrap=True)
    return rows


def _middle(turns: list[dict[str, float]], what: str) -> float:
    return median(turn[what] for turn in turns[WARM_UP:])


def _times(turns: Mapping[str, list[dict[str, float]]], name: str, what: str) -> float:
    """Median of the ratios to ours, turn by turn."""
    pairs = zip(turns[name][WARM_UP:], turns["ours"][WARM_UP:], strict=True)
    return median(theirs[what] / ours[what] for theirs, ours in pairs)
