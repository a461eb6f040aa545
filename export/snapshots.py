"""Snapshots of all users, for models that keep one: states of all behaviours, or the older ones in clusters.

They are written as one Parquet file, which `python -m store load --snapshots` brings into the store. Each
names the parameters it was made with: a scorer whose bundle has others does not use it.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from export.data.dataset import Dataset
from export.data.histories import ClusteredHistory
from export.models.contract import CTRModel, Sequence
from export.models.stateful import StatefulModel
from store.bundle import ITEM_VECTOR
from store.fold import initial_state
from store.load_snapshots import COLUMNS
from store.search import SEARCHES
from store.snapshot import Snapshot, SnapshotCodec
from store.types import MAX_TS

USERS_AT_ONCE, BEHAVIOURS_AT_ONCE = 128, 512
Tables = dict[str, NDArray[Any]]


def snapshot_id(model: CTRModel) -> str | None:
    """Digest of a model's parameters, 16 hex digits; None: the model keeps nothing of its users."""
    keeps = isinstance(model, StatefulModel) or SEARCHES[model.search_name].clustered
    return parameters_digest(model) if keeps else None


def parameters_digest(model: CTRModel) -> str:
    """Of all parameters and buffers by name, 16 hex digits."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_snapshots(
    dataset: Dataset, name: str, model: CTRModel, tables: Tables, path: Path, users: list[int] | None = None
) -> int:  # fmt: skip
    """Write the snapshots of users, whole or not at all; how many. None for a model that keeps none.

    Args:
        name: the model's.
        tables: all of its item tables.
        users: which; None = all.

    Cost: sdim 10^6 behaviours in seconds, mimn a cell step per behaviour of the longest life, for 128
    users at a time.
    """
    made_by = snapshot_id(model)
    if made_by is None:
        return 0
    empty = initial_state(tables, list(model.state_axes)) if isinstance(model, StatefulModel) else {}
    codec = SnapshotCodec(made_by, empty, len(dataset.schema.cross_features))
    chosen = list(range(len(dataset.user_ids))) if users is None else users
    packed = {user: codec.encode(snapshot) for user, snapshot in _snapshots(dataset, model, tables, chosen)}
    users = sorted(packed)
    table = pa.table(dict(zip(COLUMNS, ([dataset.user_ids[user] for user in users], [packed[u] for u in users]), strict=True)))
    table = table.replace_schema_metadata({"model": name, "data": dataset.schema.data, "snapshot_id": made_by})
    unfinished = path.with_name(f".{path.name}")
    pq.write_table(table, unfinished, row_group_size=10_000)
    unfinished.replace(path)
    return len(users)


def _snapshots(dataset: Dataset, model: CTRModel, tables: Tables, users: list[int]) -> Iterator[tuple[int, Snapshot]]:
    if isinstance(model, StatefulModel):
        yield from _states(dataset, model, tables, users)
        return
    history = ClusteredHistory(dataset, tables[ITEM_VECTOR], newest=None)
    now = int(dataset.ts.max()) + 1
    for user in track(users, "clusters", console=Console(stderr=True)):
        snapshot, life = history.snapshot(user, now), dataset.history(user, now)
        if snapshot.folded:
            yield user, snapshot.grown(life, clusters=snapshot.and_newer(life))


def _states(dataset: Dataset, model: StatefulModel, tables: Tables, chosen: list[int]) -> Iterator[tuple[int, Snapshot]]:
    """Folded for users of similar length together, each life from its oldest behaviour on."""
    by_length = np.array(sorted(chosen, key=np.diff(dataset.user_start).__getitem__))
    item_vector = torch.from_numpy(tables[ITEM_VECTOR])
    shared = {name: torch.from_numpy(tables[name]) for name in model.graph_tables}
    starts = range(0, len(by_length), USERS_AT_ONCE)
    for first in track(starts, "states", console=Console(stderr=True)):
        users = by_length[first : first + USERS_AT_ONCE].tolist()
        lives = [dataset.history(user, MAX_TS) for user in users]
        longest = max(len(life) for life in lives)
        row = np.zeros((len(lives), 1, longest), np.int32)
        for padded, life in zip(row, lives, strict=True):
            padded[0, : len(life)] = life.row
        state = _fold(model, item_vector, shared, torch.from_numpy(row))
        for u, (user, life) in enumerate(zip(users, lives, strict=True)):
            yield user, Snapshot.of(life, state={name: value[u : u + 1].numpy() for name, value in state.items()})


def _fold(model: StatefulModel, item_vector: Tensor, shared: dict[str, Tensor], row: Tensor) -> dict[str, Tensor]:
    """States after rows int32 [U, 1, L], padding behind them."""
    state = {name: value.expand(len(row), *value.shape) for name, value in model.initial().items()}
    with torch.inference_mode():
        for part in torch.split(row, BEHAVIOURS_AT_ONCE, dim=2):
            item = torch.nn.functional.embedding(part, item_vector)
            state = model.fold(state, Sequence(item, part > 0, {**shared, "retrieved_row": part}, item_vector))
    return state
