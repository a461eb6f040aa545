"""Item tables of a trained model: what the service and the graph read by row instead of computing.

`item_vector` float32 [N, D] for every model; `signature` uint64 [N] (eta); `key_projection` and
`query_projection` float32 [N, H, d_k] and `cross_bias` (sim_soft, twin, twin_v2); `bucket` int32
[N, m / tau] (sdim); the empty user's state (sdim, mimn). Rows of items that training did not
see stand too, from their features.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.data.dataset import ItemFeatures
from export.models.contract import CTRModel, as_array
from store.bundle import ITEM_VECTOR

ROWS_AT_ONCE = 100_000


def item_tables(items: ItemFeatures, model: CTRModel) -> dict[str, NDArray[Any]]:
    """All tables of a model, by name."""
    features = torch.from_numpy(items.value)
    with torch.no_grad():
        vectors = torch.cat([model.items(part) for part in torch.split(features, ROWS_AT_ONCE)])
        return {ITEM_VECTOR: as_array(vectors), **model.tables(vectors)}


def write_tables(tables: dict[str, NDArray[Any]], folder: Path) -> None:
    """Write each table as folder/<name>.npy, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        unfinished = folder / f".{name}.npy"
        np.save(unfinished, table)
        os.replace(unfinished, folder / f"{name}.npy")
