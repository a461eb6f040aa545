"""Our figures beside those of a public twin: FuxiCTR's LongCTR models on our impressions.

Equal for both: training impressions, test requests, features of items and context, figures, and the
sizes wherever the package has an option for them. What is not equal, and the package's known defects,
stand in every result, so that no figure travels without them.

A result is one JSON file in runs/fuxictr/<data>/, which the report reads: `quality` (figures overall, of
heavy users, of first-time items), `settings`, `options` of the package's model, `impressions` seen of
those `planned`, `seconds`.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from export.data.dataset import Dataset
from export.data.requests import Requests
from export.evaluate import judge, past, sample_requests
from export.fuxictr_batches import ZooImpressions
from export.fuxictr_zoo import DIFFERENCES, TWINS, build_twin, options_of
from export.json_files import read_json
from export.run import TrainingFailed, write_json
from export.train import training_requests
from store.types import Floats

RUNS = Path("runs/fuxictr")
PACKAGE = "fuxictr"
RESERVE = 1.5  # of the time that evaluation is expected to take: a machine may have other work


@dataclass(frozen=True)
class CompareSettings:
    """What a comparison is run with; a result made with other settings is not reused."""

    days: int | None = None  # as in TrainSettings
    epochs: int = 1
    minutes: float = 60.0  # for all together, evaluation included
    length: int = 200  # L
    sample: int | None = None  # test requests, the same sample as ours; None = all
    impressions_a_batch: int = 256
    learning_rate: float = 1e-3
    seed: int = 0


def compare(
    dataset: Dataset, names: Sequence[str], settings: CompareSettings, again: bool = False, runs: Path = RUNS
) -> dict[str, dict[str, Any]]:
    """Train and evaluate twins; finished ones with these settings are reused, and their time counted.

    Each gets an equal share of the time left; one that does not finish its passes in it is evaluated as
    it is, and says so by `impressions` < `planned`.

    Raises:
        TrainingFailed: the package is not installed, or a loss is not finite, or the time is too short.
    """
    folder = runs / dataset.schema.data
    results = {} if again else {name: result for name in names if (result := _finished(folder, name, dataset, settings))}
    todo = [name for name in TWINS if name in names and name not in results]
    deadline = time.monotonic() + 60 * settings.minutes - sum(result["seconds"] for result in results.values())
    for done, name in enumerate(todo):
        share = (deadline - time.monotonic()) / (len(todo) - done)
        results[name] = _run(dataset, name, settings, share)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", results[name])
    return {name: results[name] for name in names}


def _finished(folder: Path, name: str, dataset: Dataset, settings: CompareSettings) -> dict[str, Any] | None:
    result = read_json(folder / f"{name}.json")
    wanted = (dataset.facts["fingerprint"], asdict(settings), _options(name, settings))
    return result if tuple(result.get(key) for key in ("fingerprint", "settings", "options")) == wanted else None


def _run(dataset: Dataset, name: str, settings: CompareSettings, seconds: float) -> dict[str, Any]:
    """Train one twin until its passes or its time are over, evaluate it, and say all there is to say."""
    started = time.monotonic()
    train = training_requests(dataset, settings.days)
    test, sample = sample_requests(dataset.requests["test"], settings.sample)
    options = _options(name, settings)
    model = build_twin(dataset, name, options, settings.seed)
    scored = ZooImpressions(dataset, test, settings.length, TWINS[name].padding_first)
    parts = scored.parts(settings.impressions_a_batch)
    for _ in range(2):  # evaluation comes out of the same time: measured on one batch, the first call warms up
        clock = time.monotonic()
        model.predict([scored.batch(parts[0])])
    reserve = RESERVE * (time.monotonic() - clock) * len(parts)
    training = _train(model, dataset, train, name, settings, stop=started + seconds - reserve)
    trained = time.monotonic()
    bar = track(parts, f"evaluate {name}", console=Console(stderr=True))
    score: Floats = model.predict(scored.batch(part) for part in bar).astype(np.float32)
    quality = judge(test, score, past(dataset, test), sample)
    return {
        "model": name, "class": TWINS[name].kind, "package": PACKAGE, "version": version(PACKAGE),
        "data": dataset.schema.data, "fingerprint": dataset.facts["fingerprint"],
        "settings": asdict(settings), "options": options, **training,
        "quality": {**quality.as_json(), "sample": sample},
        "seconds": round(time.monotonic() - started, 1), "evaluate_seconds": round(time.monotonic() - trained, 1),
        "threads": torch.get_num_threads(), "differences": list(DIFFERENCES), "defects": list(TWINS[name].defects),
    }  # fmt: skip


def _train(model: Any, dataset: Dataset, requests: Requests, name: str, settings: CompareSettings, stop: float) -> dict[str, Any]:
    """The package's own training step over our impressions, each epoch in a new seeded order."""
    impressions = ZooImpressions(dataset, requests, settings.length, TWINS[name].padding_first)
    random = np.random.default_rng(settings.seed)
    orders = [random.permutation(len(impressions)) for _ in range(settings.epochs)]
    parts = [part for order in orders for part in impressions.parts(settings.impressions_a_batch, order)]
    losses: list[float] = []
    seen, started = 0, time.monotonic()
    model.train()
    for part in track(parts, f"train {name}", console=Console(stderr=True)):
        if time.monotonic() > stop:
            break
        losses.append(float(model.train_step(impressions.batch(part)).detach()))
        seen += len(part)
        if not math.isfinite(losses[-1]):
            raise TrainingFailed(f"{name} of {PACKAGE}: loss is {losses[-1]} at step {len(losses)}")
    if not seen:
        raise TrainingFailed(f"{name} of {PACKAGE}: no time left to train, give more --minutes, or fewer requests to --sample")
    planned, took = len(impressions) * settings.epochs, round(time.monotonic() - started, 1)
    return {"impressions": seen, "planned": planned, "train_seconds": took, "loss": float(np.mean(losses[-200:]))}


def _options(name: str, settings: CompareSettings) -> dict[str, Any]:
    return options_of(name, settings.length, settings.learning_rate)
