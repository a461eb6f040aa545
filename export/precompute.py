"""What is made offline of a trained model: item tables, and snapshots of users where it keeps such.

Tables are what the service and the graph read by row instead of computing: `item_vector` float32
[N, D] for every model; `signature` uint64 [N] (eta); `key_projection` and `query_projection` float32
[N, H, d_k] and `cross_bias` (sim_soft, twin, twin_v2); `bucket` int32 [N, m / tau] (sdim); the empty
user's state (sdim, mimn). Rows of items that training did not see stand too, from their features.

<run>/tables/
    <table>.npy           made by `precompute`; `bundle` takes them as they are
    snapshots.parquet     states or clusters of all users (sdim, mimn, twin_v2), see snapshots.py
    made_by.json          digest of the parameters and the items they were made with, written last; others are made anew
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.data.dataset import Dataset, ItemFeatures
from export.models.contract import CTRModel, as_array
from export.run import Run, write_json
from export.snapshots import parameters_digest, write_snapshots
from store.bundle import ITEM_VECTOR

ROWS_AT_ONCE = 100_000
TABLES, SNAPSHOTS, MADE_BY = "tables", "snapshots.parquet", "made_by.json"  # folder of a run, files in it

Tables = dict[str, NDArray[Any]]


def precompute(dataset: Dataset, run: Run) -> Path:
    """Write what is made offline of a run to <run>/tables, and say where: item tables, and users' snapshots if it has such."""
    folder = run.folder / TABLES
    tables = _made(dataset, run)
    write_snapshots(dataset, run.facts["model"], run.model, tables, folder / SNAPSHOTS)
    return folder


def precomputed(dataset: Dataset, run: Run) -> Tables:
    """The item tables of a run: those on disk if they are of these parameters and items, otherwise made and left there."""
    folder = run.folder / TABLES
    try:
        made_by = json.loads((folder / MADE_BY).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return _made(dataset, run)
    if made_by["digest"] != _digest(dataset, run.model):
        return _made(dataset, run)
    return {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in made_by["tables"]}


def _made(dataset: Dataset, run: Run) -> Tables:
    folder, tables = run.folder / TABLES, item_tables(dataset.items, run.model)
    (folder / MADE_BY).unlink(missing_ok=True)
    write_tables(tables, folder)
    write_json(folder / MADE_BY, {"digest": _digest(dataset, run.model), "tables": list(tables)})
    return tables


def _digest(dataset: Dataset, model: CTRModel) -> str:
    """Of the parameters and of the items' features."""
    items = hashlib.sha256(np.ascontiguousarray(dataset.items.value).tobytes())
    return f"{parameters_digest(model)}-{items.hexdigest()[:16]}"


def item_tables(items: ItemFeatures, model: CTRModel) -> Tables:
    """All tables of a model, by name."""
    features = torch.from_numpy(items.value)
    with torch.no_grad():
        vectors = torch.cat([model.items(part) for part in torch.split(features, ROWS_AT_ONCE)])
        return {ITEM_VECTOR: as_array(vectors), **model.tables(vectors)}


def write_tables(tables: Tables, folder: Path) -> None:
    """Write each table as folder/<name>.npy, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        unfinished = folder / f".{name}.npy"
        np.save(unfinished, table)
        os.replace(unfinished, folder / f"{name}.npy")
