"""The same requests for our scorer and for the servers of other systems: bodies, the answers they must get, and what the
others hold in memory."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from redis import Redis

from loadtest.served.bench_setup import fill_store, user_id
from loadtest.served.bench_world import LAST_TS, BenchWorld
from service.behaviours import Fetched
from service.loading import LoadedBundle
from service.request import Call
from service.search import search
from store.bundle import GRAPH
from store.graph_inputs import scores_of
from store.types import Floats

LIFE, CATEGORIES = 1_000, 150
CLOCK = {"hour": 13, "weekday": 2}  # given, so that an answer does not depend on when it is asked for
FOLLOWS_THE_CLOCK = {"retrieved_cross", "retrieved_gap", "recent_cross"}  # inputs with time gaps
TOLERANCE = 1e-5  # of a score


@dataclass(frozen=True)
class Asked:
    """Requests for one model, and what the first of them must be answered."""

    model: str
    bodies: Sequence[bytes]
    expected: Sequence[Floats]  # [C] each, of as many bodies as are checked


def prepare(
    world: BenchWorld, bundles: Sequence[LoadedBundle], folder: Path, users: int, candidates: int, number: int, checked: int
) -> list[Asked]:
    """Write the folder that `peers/in_memory.py` reads, and make `number` requests a model.

    Raises:
        ValueError: a model whose inputs others cannot hold ready: they are searched for each candidate, or follow the clock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ids.txt").write_text("\n".join(world.registry.ids))
    return [_prepare(world, loaded, folder, users, candidates, number, checked) for loaded in bundles]


def _prepare(
    world: BenchWorld, loaded: LoadedBundle, folder: Path, users: int, candidates: int, number: int, checked: int
) -> Asked:
    bundle = loaded.bundle
    model, stated = bundle.manifest.model, {spec.name for spec in bundle.manifest.inputs}
    if stated & FOLLOWS_THE_CLOCK:
        raise ValueError(f"{model}: {sorted(stated & FOLLOWS_THE_CLOCK)} follow the clock")
    own, bodies, expected = folder / model, list[bytes](), list[Floats]()
    own.mkdir(exist_ok=True)
    graph = own / GRAPH
    graph.unlink(missing_ok=True)
    os.symlink((bundle.folder / GRAPH).resolve(), graph)
    tables: dict[str, Any] = {name: bundle.tables[name] for name in sorted(stated & set(bundle.tables))}
    np.savez(own / "tables.npz", **tables)
    ready: dict[str, Any] = {}
    context = bundle.manifest.schema_.encode_context(CLOCK, LAST_TS)
    for i in range(number):
        ids, user = world.candidates(i % users, candidates, CATEGORIES, i), i % users
        name = user_id(LIFE, user)
        bodies.append(orjson.dumps({"user_id": name, "item_ids": ids, "model": model, "context": CLOCK}))
        if i >= max(users, checked):
            continue
        call = Call(name, bundle.registry.candidates(ids), LAST_TS, None, context, 0, 0)
        searched = search(call, Fetched(world.life(user, LIFE)), bundle)
        if not np.array_equal(searched.retrieved.place, np.arange(len(ids))):
            raise ValueError(f"{model}: candidates do not share what is retrieved")
        if i < checked:
            expected.append(scores_of(loaded.graph.run(searched.inputs).logit))
        inputs = {spec: searched.inputs[spec] for spec in stated - set(bundle.tables) - {"candidate_row"}}
        ready |= {f"{name}/{spec}": array for spec, array in inputs.items()}
    np.savez(own / "users.npz", **ready)
    return Asked(model, bodies, expected)


def fill_users(world: BenchWorld, redis: Redis, users: int) -> None:
    """The same users in a store, for ours."""
    fill_store(world, redis, {LIFE: users}, [])


def check_answer(system: str, asked: Asked, number: int, answer: bytes) -> float:
    """Largest difference of an answer's scores from what is expected of request `number`.

    Raises:
        ValueError: it is more than the tolerance: the system does other work than the one it is compared with.
    """
    scores, expected = np.array(json.loads(answer)["scores"], np.float64), asked.expected[number]
    if scores.shape != expected.shape:
        raise ValueError(f"{system}, {asked.model}: {scores.shape} scores, {expected.shape} expected")
    difference = float(np.abs(scores - expected).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"{system}, {asked.model}: scores differ by {difference:.2g}, {TOLERANCE:g} allowed; not measured")
    return difference
