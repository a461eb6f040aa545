"""What the speed table measures: its rows, their targets, and the requests of each."""

from dataclasses import dataclass, replace

import orjson

from export.models import list_models
from loadtest.served.bench_setup import Serving, user_id
from loadtest.served.bench_world import BenchWorld

USERS = {1_000: 50, 10_000: 30, 54_000: 10, 100_000: 10}  # behaviours of a life -> users
BODIES = 200  # different requests of a point, each of another user than the one before
MODELS: dict[str, dict[str, int]] = {name: {} for name in list_models()}

DEFAULT = Serving("default", MODELS, {})
HUNDRED = Serving("newest_100", {"din": {"k": 100}}, {})  # what others state for din
LIFELONG = Serving("lifelong", {"sim_soft": {}, "twin": {"merged_search": True}}, {"CTR_SEARCH_THREADS": "2"})


@dataclass(frozen=True)
class Work:
    """A row: which requests, how many a second, and what is wanted of them (None = nothing is)."""

    work: str
    model: str
    behaviours: int  # that the search runs over, or that the user has; as the row states it
    per_s: float
    p99_ms: float | None = None
    cpu_ms: float | None = None
    life: int = 1_000  # behaviours of the users; a key of `USERS`
    categories: int = 150  # of the candidates
    candidates: int = 500
    serving: Serving = DEFAULT


def _short(model: str, per_s: float, p99_ms: float | None, cpu_ms: float | None, behaviours: int = 50) -> Work:
    return Work("short", model, behaviours, per_s, p99_ms, cpu_ms)


def _long(work: str, model: str, life: int, per_s: float, p99_ms: float | None, cpu_ms: float | None) -> Work:
    return Work(work, model, life, per_s, p99_ms, cpu_ms, life)


TREE = [_long("tree", "sim_hard", life, 150, 15 if life in (10_000, 100_000) else None, 3.5) for life in USERS]
TABLE = [
    *(_short(model, 100, 12, 4) for model in ("mean_pool", "bst", "dsin", "mind")),
    _short("din", 60, 20, 9),
    replace(_short("din", 60, None, None, 100), serving=HUNDRED),
    _short("dien", 30, 30, 18),
    _short("dmin", 30, 30, 18, 20),
    *(_long("state", model, life, 100, 12, 4) for model in ("sdim", "mimn") for life in (1_000, 10_000, 100_000)),
    *TREE,
    *(replace(work, work=f"tree, {c} categories", categories=c) for c in (20, 50) for work in TREE if work.p99_ms),
    *(_long("scan", model, 10_000, 60, 20, 12) for model in ("sim_soft", "eta")),
    _long("scan", "twin", 10_000, 30, 30, 20),
    _long("scan", "twin_v2", 100_000, 30, 30, 20),
    _long("scan", "eta", 100_000, 10, 30, 30),
    *(replace(_long("scan", model, 100_000, 10, 40, 45), serving=LIFELONG) for model in ("sim_soft", "twin")),
]


def bodies(world: BenchWorld, work: Work, users: int, number: int = BODIES) -> list[bytes]:
    """So many requests as JSON, of `users` users in turn."""
    return [
        orjson.dumps(
            {
                "user_id": user_id(work.life, i % users),
                "item_ids": world.candidates(i % users, work.candidates, work.categories, i),
                "model": work.model,
            }
        )
        for i in range(number)
    ]
