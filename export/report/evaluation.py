"""Everything the report says of one model, kept beside its weights in evaluation.json.

Each part is written as soon as it is known, under a fingerprint of weights, data and sample: an
interrupted evaluation goes on with the next part, a finished one is read, and a model trained again is
evaluated again.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from export.consistency import REQUESTS, consistency, has_consistency
from export.data.dataset import Dataset
from export.evaluate import LENGTHS, Progress, evaluate, reads_beyond_newest
from export.json_files import kept_as_json, read_json
from export.models.contract import CTRModel
from export.models.registry import model_type
from export.run import RUN_FILE, RUNS, WEEK_OLD_FILE, WEIGHTS_FILE, Run, write_json
from store.search.life import LifeSearch

FORMAT = 1  # of the figures: raise it when their meaning changes
EVALUATION_FILE = "evaluation.json"

Parts = dict[str, Any]


def evaluate_fully(
    dataset: Dataset,
    run: Run,
    sample: int | None,
    consistency_requests: int = REQUESTS,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Parts:
    """Compute what evaluation.json lacks and return all of it.

    Args:
        sample: test requests to evaluate on; None = all. consistency_requests: to measure consistency on.
        progress: called with requests done, requests in all and the part that runs.
    """
    path = run.folder / EVALUATION_FILE
    fingerprint = fingerprint_of(run.folder, dataset, sample, consistency_requests)
    kept = read_json(path)
    parts: Parts = kept if kept.get("fingerprint") == fingerprint else {"fingerprint": fingerprint}
    for name, compute in _computations(dataset, run, sample, consistency_requests).items():
        if name not in parts:
            part = compute(lambda done, total, name=name: progress(done, total, name))  # type: ignore[misc]
            parts[name] = kept_as_json(part)
            write_json(path, parts)
    return parts


def kept_evaluation(
    model: str, dataset: Dataset, sample: int | None, consistency_requests: int, runs: Path = RUNS
) -> Parts | None:
    """The parts of a model whose evaluation is complete and of this run, data and sample; else None."""
    folder = runs / dataset.schema.data / model
    parts = read_json(folder / EVALUATION_FILE)
    if not parts or parts["fingerprint"] != fingerprint_of(folder, dataset, sample, consistency_requests):
        return None
    return parts if set(_names(model_type(model))) <= set(parts) else None


def fingerprint_of(folder: Path, dataset: Dataset, sample: int | None, consistency_requests: int) -> str:
    """What the figures of a run depend on, in 16 hexadecimal digits."""
    digest = hashlib.sha256(f"{FORMAT} {dataset.facts['fingerprint']} {sample} {consistency_requests}".encode())
    for name in (WEIGHTS_FILE, WEEK_OLD_FILE):
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"none")
    digest.update(json.dumps(json.loads((folder / RUN_FILE).read_text())["config"]).encode())
    return digest.hexdigest()[:16]


def _names(model: CTRModel | type[CTRModel]) -> list[str]:
    """The parts that there are for a model."""
    names = ["quality"]
    if reads_beyond_newest(model):
        names += [f"newest_{length}" for length in LENGTHS]
    return names + ["whole_life", "consistency"] * has_consistency(model)


def _computations(
    dataset: Dataset, run: Run, sample: int | None, consistency_requests: int
) -> dict[str, Callable[[Progress], Any]]:
    """What to call for each part: it is told whom to tell how far it is."""
    model = run.model

    def quality(progress: Progress) -> Parts:
        return asdict(evaluate(dataset, model, sample, progress=progress))

    def cut(length: int) -> Callable[[Progress], Any]:
        return lambda progress: asdict(evaluate(dataset, model, sample, newest=length, progress=progress).figures)

    def whole_life(progress: Progress) -> Parts:
        return asdict(evaluate(dataset, model, sample, search=LifeSearch, progress=progress).figures)

    def searches(progress: Progress) -> Parts | None:
        found = consistency(dataset, model, _old(run), consistency_requests, progress=progress)
        return None if found is None else asdict(found)

    every = {"quality": quality, **{f"newest_{length}": cut(length) for length in LENGTHS}}
    every |= {"whole_life": whole_life, "consistency": searches}
    return {name: every[name] for name in _names(model)}


def _old(run: Run) -> CTRModel | None:
    path = run.folder / WEEK_OLD_FILE
    if not path.exists():
        return None
    old = copy.deepcopy(run.model)
    old.load_state_dict(torch.load(path, weights_only=True))
    return old.eval()
