"""What a user's state costs in the store, and what it spares a request: bytes, and reads with and without it."""

from dataclasses import replace
from typing import Any

import numpy as np
from redis import Redis
from rich.console import Console
from rich.progress import track

from export.models.contract import DataShape
from export.models.registry import build, list_models, model_type
from export.models.stateful import StatefulModel
from loadtest.storing.made_up import BUCKETS, CROSS_FEATURES, DATA, USERS, made_up, median_ms
from store import keys
from store.behaviour_tree import BehaviourTree
from store.clusters import REFRESH_S, clustered
from store.fold import initial_state
from store.registry import Registry
from store.search import SEARCHES
from store.snapshot import Snapshot, SnapshotCodec
from store.states import UserStates
from store.states_due import EVERY
from store.types import Behaviours, Floats

KEEPING = [
    name
    for name in list_models()
    if issubclass(model_type(name), StatefulModel) or SEARCHES[model_type(name).search_name].clustered
]
DIM = 64
MADE_BY = "0" * 16

console = Console(stderr=True)


def bench_states(redis: Redis) -> list[dict[str, Any]]:
    """A row for each model that keeps a state and each kind of user."""
    work = [(model, user) for user in USERS for model in KEEPING]
    return [_state(redis, model, user) for model, user in track(work, "states", console=console)]


def _state(redis: Redis, model: str, user: str) -> dict[str, Any]:
    life = made_up(*USERS[user])
    registry = Registry.build(DATA, [str(i) for i in range(int(life.row.max()))], ["c"] * int(life.row.max()))
    tree = BehaviourTree(redis, DATA, CROSS_FEATURES)
    tree.write(user, life)
    vectors = np.random.default_rng(0).standard_normal((registry.item_rows, DIM)).astype(np.float32)
    older = life.select(slice(0, max(len(life) - EVERY, 1)))
    row: dict[str, Any] = {"model": model, "user": user, "behaviours": len(life)}
    if SEARCHES[model_type(model).search_name].clustered:
        codec, snapshot = SnapshotCodec(MADE_BY, {}, CROSS_FEATURES), _clusters(older, vectors)
        if snapshot is None:
            return row | {"bytes": 0}
        assert snapshot.clusters is not None
        row["clusters"] = len(snapshot.clusters)
    else:
        shape = DataShape([registry.item_rows, 2], [8] + [BUCKETS] * CROSS_FEATURES, [])
        built = build(model, shape)
        assert isinstance(built, StatefulModel)
        empty = initial_state(built.initial_tables(), list(built.state_axes))
        codec, snapshot = SnapshotCodec(MADE_BY, empty, CROSS_FEATURES), Snapshot.of(older, state=empty)
    states = UserStates(redis, DATA, tree, codec, registry)
    arrived = tree.read_life(user).arrived - (len(life) - len(older))
    redis.hset(keys.states(DATA, user), MADE_BY, codec.encode(replace(snapshot, arrived=arrived)))
    assert states.read(user, 0).how == "tail"
    size = redis.memory_usage(keys.states(DATA, user), samples=0)
    with_it = median_ms(lambda: states.read(user, 0))
    redis.delete(keys.states(DATA, user))
    return row | {"bytes": size, "read_ms": with_it, "life_ms": median_ms(lambda: tree.read_life(user))}


def _clusters(older: Behaviours, vectors: Floats) -> Snapshot | None:
    refresh = int(older.ts[-1]) // REFRESH_S * REFRESH_S
    made = clustered(older, refresh, vectors, None)
    return made.grown(older, clusters=made.and_newer(older)) if made.folded else None
