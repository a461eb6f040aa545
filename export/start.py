"""Training that continues from earlier weights: `train MODEL --from BUNDLE`, or from the folder of a run.

The data has grown since, and its numbering with it: items that became frequent enough have taken a row
in the middle, a new brand or context value stands in its alphabetical place, bucket edges have moved.
So rows of the embeddings are carried over by what they stand for, never by their number: an item by its
id, a value of another item feature by the items that have it in both data sets, a context value by its
name, a bucket by the numbers that fall into it.

What is new starts from the row of the unknown value (index 1): the model has scored it so until
now, and no score changes before there is something to learn from. A random row would be noise among
trained ones. Optimisers start anew.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.data.dataset import ITEMS_FILE, Dataset
from export.layers.embedding import CrossEmbedding
from export.models.contract import CTRModel
from export.run import RUN_FILE, WEIGHTS_FILE, TrainingFailed, as_config
from store.bundle import MANIFEST, Bundle, sha256
from store.load import REGISTRY_FILE, SCHEMA_FILE
from store.registry import Registry
from store.schema import CrossFeature, Schema
from store.types import PADDING, UNKNOWN

BUNDLED_WEIGHTS = "weights.npz"  # of a bundle, where nothing is pickled


@dataclass(frozen=True)
class Start:
    """Earlier weights, and what their rows stand for."""

    folder: Path
    model: str
    config: dict[str, Any]
    schema: Schema
    registry: Registry
    feature_names: list[str]  # [F]
    features: NDArray[np.int32]  # [N, F] values of the registry's items
    weights: dict[str, Tensor]
    digest: str  # of the weights

    @staticmethod
    def open(folder: Path) -> "Start":
        """Read a bundle, every file checked, or a finished run.

        Raises:
            TrainingFailed: neither of the two, or one made before weights were kept in it.
            BundleInvalid: a damaged bundle.
        """
        try:
            if (folder / MANIFEST).is_file():
                bundle = Bundle(folder)
                manifest, registry = bundle.manifest, bundle.registry
                model, config, schema = manifest.model, manifest.training["config"], manifest.schema_
                file = folder / BUNDLED_WEIGHTS
                with np.load(file, allow_pickle=False) as arrays:
                    weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            else:
                facts = json.loads((folder / RUN_FILE).read_text())
                model, config = facts["model"], facts["config"]
                registry = Registry.load(folder / REGISTRY_FILE)
                schema = Schema.model_validate_json((folder / SCHEMA_FILE).read_bytes())
                file = folder / WEIGHTS_FILE
                weights = torch.load(file, weights_only=True)
            with np.load(folder / ITEMS_FILE, allow_pickle=False) as arrays:
                names, features = arrays["names"].tolist(), arrays["value"]
        except FileNotFoundError as error:
            raise TrainingFailed(f"{error.filename}: missing; training continues from a bundle or a run that holds it") from None
        return Start(folder, model, as_config(config), schema, registry, names, features, weights, sha256(file)[:16])

    def config_of(self, dataset: Dataset, name: str) -> dict[str, Any]:
        """The config to build model `name` with.

        Raises:
            TrainingFailed: the weights are of another model or data set.
        """
        there = {"model": self.model, "data set": self.schema.data}
        for what, here in {"model": name, "data set": dataset.schema.data}.items():
            if there[what] != here:
                raise TrainingFailed(f"{self.folder}: weights of {what} {there[what]}, not of {here}")
        return self.config

    def carry_over(self, dataset: Dataset, name: str, model: CTRModel) -> dict[str, int]:
        """Load the weights into a fresh model of a data set.

        Returns:
            how many values of each item feature are new.

        Raises:
            TrainingFailed: other features, fewer values than there were, or parameters of another shape.
        """
        rows, new = self._rows(dataset, model)
        fresh = model.state_dict()
        for parameter, value in fresh.items():
            if parameter not in self.weights:
                raise TrainingFailed(f"{self.folder}: no parameter {parameter}, which {name} has now")
            old = self.weights[parameter]
            if parameter in rows:
                old = old[torch.from_numpy(rows[parameter])]
            if old.shape != value.shape:
                raise TrainingFailed(f"{self.folder}: {parameter} has shape {list(old.shape)}, now {list(value.shape)}")
            fresh[parameter] = old
        model.load_state_dict(fresh)
        return new

    def _rows(self, dataset: Dataset, model: CTRModel) -> tuple[dict[str, NDArray[np.intp]], dict[str, int]]:
        """For each embedding whose rows are the data's: the old row of every new one; and how many values are new."""
        here, schema = dataset.items, dataset.schema
        for what, old, now in (
            ("item features", self.feature_names, here.names),
            ("cross features", [f.name for f in self.schema.cross_features], [f.name for f in schema.cross_features]),
            ("context", self.schema.context_names, schema.context_names),
        ):
            if old != now:
                raise TrainingFailed(f"{self.folder}: {len(old)} {what} ({', '.join(old)}), now {len(now)} ({', '.join(now)})")
        rows, new = {}, {}
        for f, feature in enumerate(here.names):
            row = self._values(dataset, f)
            new[feature] = int((row[UNKNOWN + 1 :] == UNKNOWN).sum())
            rows[f"items.tables.{f}.weight"] = row
        gap = model.shape.cross_features[0]
        cross = [np.arange(gap), *map(_buckets, self.schema.cross_features, schema.cross_features)]
        context = [
            np.array([PADDING, UNKNOWN, *map(old.encode, now.values)])
            for old, now in zip(self.schema.context, schema.context, strict=True)
        ]
        tables = {name for name, module in model.named_modules() if isinstance(module, CrossEmbedding)}
        for name in tables:
            if name == "context":
                rows["context.table.weight"] = _joined(context, [feature.size for feature in self.schema.context])
            else:
                sizes = [gap, *(feature.buckets for feature in self.schema.cross_features)]
                rows[f"{name}.table.weight"] = _joined(cross, sizes)
        return rows, new

    def _values(self, dataset: Dataset, f: int) -> NDArray[np.intp]:
        """Old value of every value of an item feature: that of most items which have it; 1 where there is none."""
        before, size = int(self.features[:, f].max()) + 1, dataset.items.sizes[f]
        if size < before:
            raise TrainingFailed(
                f"{self.folder}: {before} values of {dataset.items.names[f]}, {dataset.schema.data} has {size}: data only grows"
            )
        row_of = self.registry.row_of
        shared = [(row, row_of[item]) for row, item in enumerate(dataset.registry.ids, UNKNOWN + 1) if item in row_of]
        now, old = np.array(shared, np.intp).reshape(-1, 2).T
        pairs, count = np.unique(np.stack([dataset.items.value[now, f], self.features[old, f]]), axis=1, return_counts=True)
        fewest_first = pairs[:, np.argsort(count, kind="stable")]
        row = np.full(size, UNKNOWN)
        row[fewest_first[0]] = fewest_first[1]  # of several the last, that is the most frequent, stays
        row[[PADDING, UNKNOWN]] = PADDING, UNKNOWN
        return row


def _buckets(old: CrossFeature, now: CrossFeature) -> NDArray[np.intp]:
    """The old bucket of the middle of every new one; 0 = missing."""
    edges = np.array(now.edges)
    middle = [-np.inf, *(edges[1:] + edges[:-1]) / 2, np.inf][: now.buckets - 1]
    return np.concatenate([[PADDING], old.encode(np.array(middle))]).astype(np.intp)


def _joined(parts: list[NDArray[np.intp]], sizes: list[int]) -> NDArray[np.intp]:
    """Rows in one table of several features, each `sizes` long."""
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate([part + start for part, start in zip(parts, starts, strict=True)])
