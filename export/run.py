"""A training run on disk: how it was trained, from what, and the weights it left.

runs/models/<data>/<model>/
    weights.pt                            the parameters
    weights_week_old.pt                   those before the last week's impressions, where it was trained on last
    items.npz registry.npz schema.json    what the rows of the weights stand for (`export.start` reads them)
    run.json                              settings, losses, figures; written last
    checkpoints/                          while training runs, or after it was interrupted
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.data.dataset import Dataset, ItemFeatures
from export.models import build
from export.models.contract import CTRModel, DataShape
from store.gaps import BUCKETS
from store.schema import Schema

RUNS = Path("runs/models")
WEIGHTS_FILE, WEEK_OLD_FILE, RUN_FILE = "weights.pt", "weights_week_old.pt", "run.json"


class TrainingFailed(RuntimeError):
    """Training cannot go on, or there is no finished run to use."""


@dataclass(frozen=True)
class TrainSettings:
    """How to train; written to run.json. What is not here, in the model or in its config does not change the weights."""

    days: int | None = None  # only impressions of the last days before the training end; None = all
    epochs: int = 1
    requests_a_batch: int = 16  # of each process
    learning_rate: float = 1e-3
    item_learning_rate: float = 3e-3
    seed: int = 0
    tune: bool = False  # stop before the validation split, so that settings are never chosen on the test
    patience: int = 0  # stop after so many evaluations without a better AUC and keep the best weights; 0 = off
    evaluate_every: int | None = None  # steps between evaluations on the validation split; None = each epoch, with patience
    evaluated_requests: int = 2000  # how many of the split's, a seeded sample
    devices: int = 1  # processes that share each step
    checkpoint_every: int = 500  # steps

    @property
    def evaluates(self) -> bool:
        """Whether training looks at the validation split."""
        return self.patience > 0 or self.evaluate_every is not None


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
            TrainingFailed: no such run, or one of other data, or of another version of the model.
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
        try:
            model = build(name, DataShape(**facts["shape"]), **as_config(facts["config"]))
            model.load_state_dict(weights)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TrainingFailed(f"{folder}: weights of another version of {name}, train again ({error})") from error
        return Run(folder, model.eval(), facts)

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        self.facts.update(facts)
        write_json(self.folder / RUN_FILE, self.facts)


def finished(dataset: Dataset, name: str, settings: TrainSettings, runs: Path = RUNS, **config: Any) -> Run | None:
    """The run that `train` with the same arguments would leave, if it has been left already; one that continued
    from earlier weights is another run."""
    try:
        run = Run.open(dataset.schema.data, name, dataset, runs)
    except TrainingFailed:
        return None
    wanted = made_from(dataset, build(name, data_shape(dataset), **config), name, settings)
    return run if run.facts.get("made_from") == wanted else None


def data_shape(dataset: Dataset) -> DataShape:
    """The sizes a model of this data set has."""
    return shape_of(dataset.items, dataset.schema)


def shape_of(items: ItemFeatures, schema: Schema) -> DataShape:
    """The sizes a model of these features has."""
    return DataShape(
        item_features=items.sizes,
        cross_features=[BUCKETS, *(feature.buckets for feature in schema.cross_features)],
        context=[feature.size for feature in schema.context],
        negative_behaviours=schema.negative_behaviours,
    )


def made_from(dataset: Dataset, model: CTRModel, name: str, settings: TrainSettings, start: str | None = None) -> str:
    """Digest of what decides a run's weights, as far as it can be seen without training: settings, config, data and the
    first weights; `start`: that of the weights it starts from. A change of the forward pass alone needs `--again`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        first = build(name, model.shape, **asdict(model.config)).state_dict()
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in first.values())).hexdigest()
    parts = {
        "model": name,
        "first_weights": digest,
        "slow": list(model.slow),
        "settings": asdict(settings),
        **model.settings(),
        "parameters": {name: list(value.shape) for name, value in model.state_dict().items()},
        "data": dataset.facts["fingerprint"],
        "start": start,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def as_config(config: dict[str, Any]) -> dict[str, Any]:
    """A model's config as JSON gives it back, its lists tuples again."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write parameters, whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    torch.save(weights, unfinished)
    os.replace(unfinished, path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(content, indent=1))
    os.replace(unfinished, path)
