"""Train one model: Lightning's loop around our batches.

Two optimisers: a sparse Adam for the item tables, whose gradients touch only a batch's rows, and
Adam for the rest; both learning rates fall linearly. A run leaves weights.pt and run.json in
runs/models/<data>/<model>/, written when training has ended.
"""

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from export.batches import Batcher
from export.data.dataset import Dataset
from export.data.requests import Requests
from export.models import build
from export.models.contract import CTRModel, DataShape
from store.gaps import BUCKETS

RUNS = Path("runs/models")
WEIGHTS_FILE, RUN_FILE = "weights.pt", "run.json"
DAY_S = 86400
LAST_RATE = 0.05  # of the first learning rate, at the end


class TrainingFailed(RuntimeError):
    """Training cannot go on, or there is no finished run to use."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train; written to run.json."""

    days: int | None = None  # only impressions of the last days before the training end; None = all
    epochs: int = 1
    requests_a_batch: int = 16
    learning_rate: float = 1e-3
    item_learning_rate: float = 3e-3
    seed: int = 0
    tune: bool = False  # stop before the validation split, so that settings are never chosen on the test


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    model: CTRModel
    facts: dict[str, Any]

    @staticmethod
    def open(data: str, name: str, dataset: Dataset, runs: Path = RUNS) -> "Run":
        """Load the last run of a model.

        Raises:
            TrainingFailed: no such run, or one of other data.
        """
        folder = runs / data / name
        try:
            facts = json.loads((folder / RUN_FILE).read_text())
            weights = torch.load(folder / WEIGHTS_FILE, weights_only=True)
        except FileNotFoundError as error:
            raise TrainingFailed(f"{error.filename}: missing; run `python -m export train {name} --data {data}` first") from None
        if facts["fingerprint"] != dataset.facts["fingerprint"]:
            raise TrainingFailed(
                f"{folder}: trained on data {facts['fingerprint']}, {data} is now {dataset.facts['fingerprint']}: train again"
            )
        model = build(name, DataShape(**facts["shape"]), **_as_tuples(facts["config"]))
        model.load_state_dict(weights)
        return Run(folder, model.eval(), facts)

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        self.facts.update(facts)
        _write_json(self.folder / RUN_FILE, self.facts)


def data_shape(dataset: Dataset) -> DataShape:
    """The sizes a model of this data set has."""
    return DataShape(
        item_features=dataset.items.sizes,
        cross_features=[BUCKETS, *(feature.buckets for feature in dataset.schema.cross_features)],
        context=[feature.size for feature in dataset.schema.context],
    )


def training_requests(dataset: Dataset, days: int | None, tune: bool = False) -> Requests:
    """The training split, or its last days; with `tune` only what is before the validation split."""
    requests = dataset.requests["train"]
    end = dataset.facts["validation_ts" if tune else "train_end_ts"]
    start = 0 if days is None else end - days * DAY_S
    return requests.select(np.flatnonzero((requests.at >= start) & (requests.at < end)))


class _Module(lightning.LightningModule):  # type: ignore[misc]
    """The training step."""

    def __init__(self, model: CTRModel, batcher: Batcher, settings: TrainSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.batcher, self.settings = model, batcher, settings
        self.losses: list[float] = []

    def configure_optimizers(self) -> Any:
        settings = self.settings
        tables = list(self.model.items.parameters())
        others = [p for name, p in self.model.named_parameters() if not name.startswith("items.")]
        optimisers = [
            torch.optim.SparseAdam(tables, lr=settings.item_learning_rate),
            torch.optim.Adam(others, lr=settings.learning_rate),
        ]
        steps = max(int(self.trainer.estimated_stepping_batches), 1)

        def falling(step: int) -> float:
            return max(1 - step / steps, LAST_RATE)

        return optimisers, [torch.optim.lr_scheduler.LambdaLR(optimiser, falling) for optimiser in optimisers]

    def training_step(self, requests: Tensor, index: int) -> None:
        logit, label = self.batcher.logits(requests.tolist())
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingFailed(f"loss is {value} at step {index}: lower the learning rate, or look for outliers in the data")
        self.losses.append(value)
        optimisers: Any = self.optimizers()
        for optimiser in optimisers:
            optimiser.zero_grad()
        self.manual_backward(loss)
        for optimiser, schedule in zip(optimisers, self.lr_schedulers(), strict=True):
            optimiser.step()
            schedule.step()


class _Report(Callback):  # type: ignore[misc]
    """Tell the caller how far training is."""

    def __init__(self, progress: Callable[[int, int, float], None]) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.progress(trainer.global_step // 2, int(trainer.max_steps), float(np.mean(module.losses[-50:])))


def train(
    dataset: Dataset,
    name: str,
    settings: TrainSettings,
    progress: Callable[[int, int, float], None] = lambda *_: None,
    runs: Path = RUNS,
    **config: Any,
) -> Run:
    """Train a model from nothing and leave a finished run.

    Args:
        progress: called after each step with steps done, steps in all and the recent loss.
        config: settings of the model itself.

    Raises:
        TrainingFailed: no impressions to train on, or the loss is not finite.
    """
    requests = training_requests(dataset, settings.days, settings.tune)
    if not len(requests) or not 0 < requests.label.mean() < 1:
        raise TrainingFailed(f"{dataset.schema.data}: {len(requests)} training requests, both labels are needed")
    lightning.seed_everything(settings.seed, verbose=False)
    model = build(name, data_shape(dataset), **config)
    batcher = Batcher(dataset, requests, model, forget=np.random.default_rng(settings.seed))
    module = _Module(model, batcher, settings)
    order = torch.Generator().manual_seed(settings.seed)
    loader: DataLoader[Any] = DataLoader(
        range(len(requests)),  # type: ignore[arg-type]
        batch_size=settings.requests_a_batch, shuffle=True, generator=order,
    )  # fmt: skip
    steps = len(loader) * settings.epochs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*num_workers.*")  # batches are made in the step: they need the parameters
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=settings.epochs, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            callbacks=[_Report(lambda step, _, loss: progress(step, steps, loss))],
        )  # fmt: skip
        trainer.fit(module, loader)
    folder = runs / dataset.schema.data / name
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{WEIGHTS_FILE}"
    torch.save(model.state_dict(), unfinished)
    os.replace(unfinished, folder / WEIGHTS_FILE)
    facts = {
        "model": name,
        "data": dataset.schema.data,
        "fingerprint": dataset.facts["fingerprint"],
        "settings": asdict(settings),
        **model.settings(),
        "requests": len(requests),
        "impressions": len(requests.row),
        "base_rate": float(requests.label.mean()),
        "loss": float(np.mean(module.losses[-200:])),
        "seconds": round(time.monotonic() - started, 1),
    }
    _write_json(folder / RUN_FILE, facts)
    return Run(folder, model.eval(), facts)


def _as_tuples(config: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(content, indent=1))
    os.replace(unfinished, path)
