"""Train one model on a data set and leave a finished run. The loop is in `export.loop`, the files in `export.run`."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.batches import Batcher
from export.data.dataset import ITEMS_FILE, Dataset
from export.data.requests import Requests
from export.loop import LAST_CHECKPOINT, NOTE_FILE, Interrupted, Module, Progress, fit
from export.models import build
from export.order import Order
from export.run import (
    RUN_FILE,
    RUNS,
    WEEK_OLD_FILE,
    WEIGHTS_FILE,
    Run,
    TrainingFailed,
    TrainSettings,
    data_shape,
    made_from,
    save_weights,
    write_json,
)
from export.start import Start
from export.validation import Validation
from store.load import REGISTRY_FILE, SCHEMA_FILE

__all__ = ["Run", "TrainSettings", "TrainingFailed", "data_shape", "train", "training_requests"]

DAY_S = 86400
LAST_BLOCK_DAYS = 7  # trained on after everything older
CHECKPOINTS, MADE_FROM_FILE = "checkpoints", "made_from.json"


def training_requests(dataset: Dataset, days: int | None, tune: bool = False) -> Requests:
    """The training split, or its last days; with `tune` only what is before the validation split."""
    requests = dataset.requests["train"]
    end = _training_end(dataset, tune)
    start = 0 if days is None else end - days * DAY_S
    return requests.select(np.flatnonzero((requests.at >= start) & (requests.at < end)))


def train(
    dataset: Dataset,
    name: str,
    settings: TrainSettings,
    progress: Progress = lambda *_: None,
    runs: Path = RUNS,
    *,
    say: Callable[[str], None] = lambda _: None,
    again: bool = False,
    start: Start | None = None,
    **config: Any,
) -> Run:
    """Train a model and leave a finished run; one of the same arguments that was interrupted goes on where it was.

    Args:
        progress: called after each step with steps done, steps in all and the recent loss.
        say: called with a line on what an interrupted run left.
        again: begin anew whatever it left.
        start: weights to continue from, with their config; None = from nothing.
        config: settings of the model itself.

    Raises:
        TrainingFailed: no impressions to train on, a loss that is not finite, early stopping on a split that is
            trained on, or weights to continue from that do not fit. Of a run before it, all is left as it was.
    """
    requests = training_requests(dataset, settings.days, settings.tune)
    if len(requests) < settings.devices or not 0 < requests.label.mean() < 1:
        raise TrainingFailed(
            f"{dataset.schema.data}: {len(requests)} training requests for {settings.devices} devices, both labels are needed"
        )
    torch.manual_seed(settings.seed)
    model = build(name, data_shape(dataset), **((start.config_of(dataset, name) if start else {}) | config))
    new_values = start.carry_over(dataset, name, model) if start else None
    made = made_from(dataset, model, name, settings, start.digest if start else None)

    folder = runs / dataset.schema.data / name
    checkpoints = folder / CHECKPOINTS
    end = _training_end(dataset, settings.tune)
    validation = [Validation(dataset, settings, end, checkpoints)] if settings.evaluates else []
    last_block = end - LAST_BLOCK_DAYS * DAY_S
    order = Order(requests.at, last_block, settings.requests_a_batch, settings.epochs, settings.seed, settings.devices)
    batcher = Batcher(dataset, requests, model, random=np.random.default_rng(settings.seed))
    resumed = _interrupted(checkpoints, made, again, say)
    try:
        fit(Module(batcher, order, settings, checkpoints), validation, progress, resumed)
        if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
            raise TrainingFailed(f"a weight is not finite after the last of {len(order)} steps: lower the learning rates")
    except TrainingFailed as error:
        if not isinstance(error, Interrupted):
            shutil.rmtree(checkpoints)  # going on from there would fail again
        raise

    note = json.loads((checkpoints / NOTE_FILE).read_text())
    (folder / RUN_FILE).unlink(missing_ok=True)  # from here on until it is written there is no finished run
    save_weights(model.state_dict(), folder / WEIGHTS_FILE)
    (folder / WEEK_OLD_FILE).unlink(missing_ok=True)
    week_old = order.week_old is not None and note["kept_step"] > order.week_old
    if week_old:
        shutil.copyfile(checkpoints / WEEK_OLD_FILE, folder / WEEK_OLD_FILE)
    for file in (ITEMS_FILE, REGISTRY_FILE, SCHEMA_FILE):
        shutil.copyfile(dataset.folder / file, folder / file)
    facts = {
        "model": name,
        "data": dataset.schema.data,
        "fingerprint": dataset.facts["fingerprint"],
        "made_from": made,
        "settings": asdict(settings),
        **model.settings(),
        "started_from": {"folder": str(start.folder), "weights": start.digest, "new_values": new_values} if start else None,
        "requests": len(requests),
        "impressions": len(requests.row),
        "base_rate": float(requests.label.mean()),
        "weights_week_old": WEEK_OLD_FILE if week_old else None,
        "versions": {package: version(package) for package in ("torch", "lightning", "numpy")},
        **note,
    }
    write_json(folder / RUN_FILE, facts)
    shutil.rmtree(checkpoints)
    return Run(folder, model.eval(), facts)


def _training_end(dataset: Dataset, tune: bool) -> int:
    """Unix seconds; training impressions are before it."""
    end: int = dataset.facts["validation_ts" if tune else "train_end_ts"]
    return end


def _interrupted(checkpoints: Path, made: str, again: bool, say: Callable[[str], None]) -> Path | None:
    """The checkpoint of the same run, if one was interrupted; otherwise the folder is made ready for a new one."""
    last, made_file = checkpoints / LAST_CHECKPOINT, checkpoints / MADE_FROM_FILE
    if last.exists() and made_file.exists() and not again:
        if json.loads(made_file.read_text())["made_from"] == made:
            say(f"{last}: an interrupted run goes on")
            return last
        say(f"{last}: of other settings, config or data: training starts afresh")
    shutil.rmtree(checkpoints, ignore_errors=True)
    checkpoints.mkdir(parents=True)
    write_json(made_file, {"made_from": made})
    return None
