"""What the benchmarks serve: bundles by the real export path, and a store with users; kept and used again.

Weights are random: what a graph or a search costs does not depend on their values. What is in the folder is used again while
neither the sizes nor the code that made it have changed.

    runs/bench/bundles/<serving>/<model>/<version>/     and made_by.json
    runs/bench/store/                                   the embedded store's: trees, snapshots; and made_by.json
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from rich.console import Console
from rich.progress import track

from export.run import write_json
from loadtest.served.bench_world import CROSS, DATA, SEED, BenchWorld
from loadtest.served.untrained import is_made, make_untrained
from service.bundles import Bundles
from service.keeper import ModelStates
from service.loading import Loading
from service.metrics import Metrics
from store.append import Appender, Arrived
from store.behaviour_tree import BehaviourTree
from store.load import store_schema
from store.registry import StoredRegistry

TAIL = 16  # behaviours after a user's snapshot: what a keeper leaves, on average
SHORT = 64  # lives up to it have no snapshot
MADE_BY = "made_by.json"
FILLED = f"{DATA}:filled"  # users that are whole, each with the ids of its snapshots
OURS = ("loadtest/served/bench_world.py", "loadtest/served/bench_setup.py", "loadtest/served/untrained.py")

console = Console(stderr=True)


@dataclass(frozen=True)
class Serving:
    """What one scorer serves, and how: models with other sizes than their defaults, settings other than the defaults."""

    name: str
    models: Mapping[str, Mapping[str, Any]]  # name -> config
    settings: Mapping[str, str]


def user_id(length: int, user: int) -> str:
    """The name of the n-th user whose life has so many behaviours."""
    return f"{length}-{user}"


def bundles_of(world: BenchWorld, serving: Serving, folder: Path) -> Path:
    """The folder of a serving's bundles, made if they are not there yet. Cost: about ten seconds a model, once."""
    made = folder / "bundles" / serving.name
    code = _digest("export/models", "export/layers", "export/*.py", "store/bundle.py", "store/graph_inputs.py", *OURS)
    made_by = {"code": code, "sizes": asdict(world.sizes)}
    if _made_by(made) not in (None, made_by):
        shutil.rmtree(made)
    made.mkdir(parents=True, exist_ok=True)
    write_json(made / MADE_BY, made_by)
    missing = {name: config for name, config in serving.models.items() if not is_made(made / name)}
    if not missing:
        return made
    with tempfile.TemporaryDirectory() as work:
        dataset = world.dataset(Path(work))
        for name, config in track(missing.items(), f"bundles of {serving.name}", console=console):
            make_untrained(dataset, name, config, SEED, made)
    return made


def fill_store(world: BenchWorld, redis: Redis, lives: Mapping[int, int], keeping: Iterable[ModelStates]) -> None:
    """Schema, items, and for each length so many users, with the snapshots of every model that keeps one and `TAIL` behaviours
    after them. What is there already stays. Cost: minutes for long lives, once."""
    store_schema(redis, world.schema)
    StoredRegistry(redis, DATA).load(world.registry)
    tree, models = BehaviourTree(redis, DATA, len(CROSS)), list(keeping)
    appender = Appender(redis, DATA, len(CROSS))
    users = [(length, user) for length, number in lives.items() for user in range(number)]
    for length, user in track(users, "users", console=console):
        name = user_id(length, user)
        kept = models if length > SHORT else []
        entry = " ".join([name, *(model.snapshot_id for model in kept)])
        if redis.sismember(FILLED, entry):
            continue
        life = world.life(user, length)
        before = len(life) - (TAIL if kept else 0)
        tree.write(name, life.select(slice(0, before)))
        for model in kept:
            model.keep(name, int(time.time()))
        tail = life.select(slice(before, None))
        columns = zip(tail.row.tolist(), tail.category.tolist(), tail.ts.tolist(), tail.cross, strict=True)
        appender.append([Arrived(name, row, category, ts, cross.tobytes()) for row, category, ts, cross in columns])
        redis.sadd(FILLED, entry)


def models_keeping(bundles: Path, redis: Redis) -> list[ModelStates]:
    """The models among some bundles that keep something of their users."""
    loaded = Bundles(bundles, DATA, "", Loading("cpu", 1), Metrics())
    return [ModelStates(loaded, one.bundle.manifest.model, redis) for one in loaded.all if one.bundle.snapshots is not None]


def store_folder(world: BenchWorld, folder: Path) -> Path:
    """The folder of the store, emptied if what is in it was made by other code or sizes."""
    store = folder / "store"
    made_by = {
        "code": _digest("store/*.py", "store/*.lua", "loadtest/served/bench_world.py", "loadtest/served/bench_setup.py"),
        "sizes": asdict(world.sizes),
    }
    if _made_by(store) not in (None, made_by):
        shutil.rmtree(store)
    store.mkdir(parents=True, exist_ok=True)
    write_json(store / MADE_BY, made_by)
    return store


def _made_by(folder: Path) -> Any:
    """What made a folder; None = there is none, {} = nobody knows."""
    if not folder.exists():
        return None
    try:
        return json.loads((folder / MADE_BY).read_text())
    except FileNotFoundError:
        return {}


def _digest(*where: str) -> str:
    """Of source files, folders of them, or globs."""
    root = Path(__file__).parents[2]
    found = [path for pattern in where for path in (root.glob(pattern) if "*" in pattern else [root / pattern])]
    files = sorted({file for path in found for file in (path.rglob("*.py") if path.is_dir() else [path])})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
