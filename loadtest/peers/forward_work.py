"""One user and their candidates, as files that each contender reads, and the contenders' commands.

`ours` searches and attends in this process' packages, on a bundle; `FuxiCTR` runs the zoo's model of the same paper, its
sequence repeated for every candidate, in .venv-peers; `onnxruntime` runs our model exported as it is written for a batch of
training rows, the user repeated for every candidate: `tiled_graph.py`.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.data.dataset import Dataset
from export.fuxictr_zoo import TWINS, features_of, options_of
from loadtest.peers.forward_ours import REQUEST
from loadtest.served.bench_setup import TAIL, Serving
from loadtest.served.bench_world import LAST_TS, BenchWorld
from loadtest.speed.work import HUNDRED
from service.behaviours import Fetched
from service.loading import LoadedBundle
from service.request import Call
from service.search import search
from store.bundle import Bundle
from store.graph_inputs import GraphInputs, scores_of
from store.types import Behaviours, Floats

LONG, CATEGORIES = 10_000, 150
SERVING = Serving("forward", {name: {} for name in TWINS}, {})
JOB, ZOO = "job.json", "zoo.npz"


@dataclass(frozen=True)
class ForwardWork:
    """A model over so many behaviours."""

    model: str
    behaviours: int
    repeats: int = 3
    tiled: bool = False  # exported plainly, too
    serving: Serving = SERVING


WORKS = [
    ForwardWork("din", 50, 15, tiled=True),
    ForwardWork("din", 100, 15, tiled=True, serving=HUNDRED),
    ForwardWork("dien", 50, 15),
    ForwardWork("sdim", LONG),
    ForwardWork("sim_soft", LONG, tiled=True),
    ForwardWork("eta", LONG, tiled=True),
    ForwardWork("twin", LONG, tiled=True),
]


def write_request(world: BenchWorld, bundle: Bundle, length: int, candidates: int, folder: Path) -> tuple[Call, Behaviours]:
    """One request, and the same in `folder`/request.npz."""
    life = world.life(0, length)
    found = bundle.registry.candidates(world.candidates(0, candidates, CATEGORIES, 0))
    context = bundle.manifest.schema_.encode_context({}, LAST_TS + 1)
    call = Call("one", found, LAST_TS + 1, None, context, 0, 0)
    np.savez(
        folder / REQUEST, row=life.row, category=life.category, ts=life.ts, cross=life.cross, candidate_row=found.row,
        candidate_category=found.category, at=call.at, context=context, tail=TAIL,
    )  # fmt: skip
    return call, life


def ours_once(loaded: LoadedBundle, call: Call, life: Behaviours) -> tuple[GraphInputs, Floats]:
    """The inputs of the whole graph, and the scores [C] of a request that folds and searches all behaviours."""
    of_whole = search(call, Fetched(life), loaded.bundle).inputs
    fed = search(call, Fetched(life), loaded.bundle, takes=loaded.graph.takes).inputs
    return of_whole, scores_of(loaded.graph.run(fed).logit)


def write_zoo(dataset: Dataset, work: ForwardWork, call: Call, life: Behaviours, folder: Path) -> None:
    """The model of the zoo and the features of the user and the candidates, for `peers/fuxictr_forward.py`."""
    job: dict[str, Any] = {
        "kind": TWINS[work.model].kind, "options": options_of(work.model, work.behaviours, 1e-3), "features": features_of(dataset)
    }  # fmt: skip
    (folder / JOB).write_text(json.dumps(job))
    value = dataset.items.value
    np.savez(folder / ZOO, behaviours=value[life.row], candidates=value[call.candidates.row], context=call.context)


def commands(work: ForwardWork, bundle: Path, folder: Path, peer_python: Path, threads: int) -> dict[str, list[str | Path]]:
    """Name -> command of every contender, ours first."""
    number = str(threads)
    found: dict[str, list[str | Path]] = {"ours": [sys.executable, "-m", "loadtest.peers.forward_ours", bundle, folder, number]}
    if Bundle(bundle).manifest.state:
        found["ours, nothing kept"] = [*found["ours"], "--whole-life"]
    found["FuxiCTR"] = [peer_python, "-m", "loadtest.peers.apps.fuxictr_forward", folder, number]
    if work.tiled:
        found["onnxruntime"] = [sys.executable, "-m", "loadtest.peers.forward_tiled", folder, number]
    return found
