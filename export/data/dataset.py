"""A prepared data set in memory: behaviours of all users, item features, labelled requests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from export.data.requests import Requests
from store.load import BEHAVIOURS_FILE, REGISTRY_FILE, SCHEMA_FILE
from store.registry import Registry
from store.schema import Schema
from store.types import Behaviours, Bytes, Rows, Seconds

ITEMS_FILE = "items.npz"
FACTS_FILE = "dataset.json"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ItemFeatures:
    """What a model knows of each item: one id per feature, 0 = padding, 1 = unknown.

    Feature 0 is the item itself; items seen less than twice in training have 1 there, so that the
    embedding of the unknown item is trained by them and stands for them.
    """

    names: list[str]  # item, category, then the inherent ones
    value: Rows  # [N, F]
    sizes: list[int]  # [F] values of each feature, 0 and 1 included
    vocabulary: list[list[str]]  # [F] what the values from 2 on stand for; of the item itself nothing: the registry says it

    def save(self, path: Path) -> None:
        """Write as .npz."""
        vocabulary = np.frombuffer(json.dumps(self.vocabulary).encode(), np.uint8)
        np.savez(path, names=np.array(self.names), value=self.value, sizes=np.array(self.sizes), vocabulary=vocabulary)

    @staticmethod
    def load(path: Path) -> "ItemFeatures":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            vocabulary = json.loads(arrays["vocabulary"].tobytes())
            return ItemFeatures(arrays["names"].tolist(), arrays["value"], arrays["sizes"].tolist(), vocabulary)


@dataclass(frozen=True)
class Dataset:
    """Everything training needs; made by `export.data.prepare`, read back from its folder."""

    folder: Path
    facts: dict[str, Any]  # name, fingerprint, calibrated, splits and counts
    schema: Schema
    registry: Registry
    items: ItemFeatures
    user_ids: list[str]
    user_start: NDArray[np.int64]  # [users + 1]
    row: Rows  # [behaviours of all users]
    ts: Seconds
    cross: Bytes  # [.., J]
    requests: dict[str, Requests]

    def history(self, user: int, before: int) -> Behaviours:
        """Behaviours of a user with ts < before: no impression sees its own outcome."""
        start, end = int(self.user_start[user]), int(self.user_start[user + 1])
        end = start + int(np.searchsorted(self.ts[start:end], before, side="left"))
        part = slice(start, end)
        return Behaviours(self.row[part], self.registry.category[self.row[part]], self.ts[part], self.cross[part])

    @staticmethod
    def open(folder: Path) -> "Dataset":
        """Read a prepared folder."""
        schema = Schema.model_validate_json((folder / SCHEMA_FILE).read_bytes())
        table = pq.read_table(folder / BEHAVIOURS_FILE)
        user = table["user_id"].combine_chunks().dictionary_encode()
        codes = user.indices.to_numpy()
        cross = [table[feature.name].to_numpy() for feature in schema.cross_features]
        return Dataset(
            folder=folder,
            facts=json.loads((folder / FACTS_FILE).read_text()),
            schema=schema,
            registry=Registry.load(folder / REGISTRY_FILE),
            items=ItemFeatures.load(folder / ITEMS_FILE),
            user_ids=user.dictionary.to_pylist(),
            user_start=np.concatenate([np.flatnonzero(np.diff(codes, prepend=-1)), [len(codes)]]),
            row=table["row"].to_numpy().astype(np.int32),
            ts=table["ts"].to_numpy().astype(np.int64),
            cross=np.stack(cross, axis=1) if cross else np.zeros((len(codes), 0), np.uint8),
            requests={split: Requests.load(folder / f"{split}.npz") for split in SPLITS},
        )
