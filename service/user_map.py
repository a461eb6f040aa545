"""A user's tree as the page shows it: behaviours counted by category and time, and candidates to begin with.

Whatever the life's length, an answer has a few thousand numbers: 100,000 behaviours are added up here, not in a browser.
"""

from itertools import islice

import numpy as np
import orjson
from numpy.typing import NDArray
from redis import Redis

from service.bundles import Bundles
from service.errors import InvalidRequest, NoModel
from service.users import answering
from store import keys
from store.behaviour_tree import BehaviourTree
from store.connection import text
from store.registry import Registry
from store.types import FIRST_KNOWN, MAX_TS, Behaviours, Seconds

BINS = 36  # of time
MAX_BINS = 200
CATEGORIES = 100  # the largest; the others are one line
CANDIDATES = 40  # that are suggested
LOOKED_AT, USERS = 300, 8  # users that are looked at, and named, where somebody begins

Counts = NDArray[np.int64]


class UserMaps:
    """Maps of the users of the data set that is served."""

    def __init__(self, redis: Redis, bundles: Bundles) -> None:
        self._redis, self._bundles = redis, bundles

    def some(self) -> list[dict[str, object]]:
        """A few users to begin with, from the longest life to the shortest of those looked at: `user_id`, `total`.

        Raises:
            StoreFailed: the store did not answer.
        """
        with answering("0"):
            users = list(islice(BehaviourTree(self._redis, self._bundles.data, 0).users(), LOOKED_AT))
            with self._redis.pipeline(transaction=False) as pipe:
                for user in users:
                    pipe.hget(keys.tree(self._bundles.data, user), text(keys.TOTAL_FIELD))
                totals = [int(total or 0) for total in pipe.execute()]
        longest = sorted(zip(totals, users, strict=True), reverse=True)
        shown = np.unique(np.linspace(0, len(longest) - 1, USERS).astype(int)).tolist() if longest else []
        return [{"user_id": longest[at][1], "total": longest[at][0]} for at in shown]

    def of(self, user_id: str, bins: int = BINS, at: int = MAX_TS) -> bytes:
        """Counts of one user's behaviours as JSON: `edges` Unix seconds [bins + 1], and `counts` [bins] of each of the largest
        categories and of all `others` together; candidates `suggested` by what was before `at`. Cost: the whole life is read.

        Raises:
            InvalidRequest: no id, or bins out of range; NoModel: none is loaded; StoreFailed: the store did not answer.
        """
        if not 1 <= bins <= MAX_BINS:
            raise InvalidRequest(f"bins: {bins}, limit {MAX_BINS if bins > MAX_BINS else 1}", "bins")
        if not self._bundles.all:
            raise NoModel("users: no bundle is loaded, and the schema comes with one")
        bundle = self._bundles.all[0].bundle
        schema = bundle.manifest.schema_
        with answering(user_id) as user:
            read = BehaviourTree(self._redis, schema.data, len(schema.cross_features)).read_life(user)
            names = {int(row): text(name) for name, row in self._redis.hgetall(keys.categories(schema.data)).items()}
        life = read.behaviours
        first, last = (int(life.ts[0]), int(life.ts[-1])) if len(life) else (0, 0)
        edges = np.floor(np.linspace(first, last + 1, bins + 1)).astype(np.int64)
        rows, counts = counted(life, edges)
        return orjson.dumps({
            "user_id": user, "total": len(life), "bad_records": read.bad_records, "edges": edges.tolist(),
            "categories": [
                {"category": names.get(row), "counts": of_one.tolist()}
                for row, of_one in zip(rows[:CATEGORIES], counts[:CATEGORIES], strict=True)
            ],
            "others": {"categories": len(rows[CATEGORIES:]), "counts": counts[CATEGORIES:].sum(axis=0).tolist()},
            "suggested": suggested(life.select(life.ts < at), bundle.registry, user),
        })  # fmt: skip


def counted(life: Behaviours, edges: Seconds) -> tuple[list[int], Counts]:
    """Category rows, the one with the most behaviours first, and how many of each fall into each bin [categories, bins]."""
    bins = len(edges) - 1
    categories, place = np.unique(life.category, return_inverse=True)
    at = np.clip(np.searchsorted(edges, life.ts, side="right") - 1, 0, bins - 1)
    counts = np.bincount(place * bins + at, minlength=len(categories) * bins).reshape(-1, bins)
    largest = np.argsort(-counts.sum(axis=1), kind="stable")
    return categories[largest].tolist(), counts[largest]


def suggested(life: Behaviours, registry: Registry, user: str) -> list[str]:
    """Candidates to try: half of them the user's newest items, half others of the same categories; of anything for a new user.
    The same ones as long as the behaviours are."""
    random = np.random.default_rng(list(user.encode()))
    newest = list(dict.fromkeys(registry.known(life.row[::-1]).tolist()))
    own = [row for row in newest if row >= FIRST_KNOWN][: CANDIDATES // 2]
    of_own = np.isin(registry.category, np.unique(registry.category[own]))
    alike = np.flatnonzero(of_own) if own else np.arange(registry.item_rows)
    alike = alike[alike >= FIRST_KNOWN]
    others = random.choice(alike, min(CANDIDATES, len(alike)), replace=False).tolist()
    rows = list(dict.fromkeys([*own, *others]))[:CANDIDATES]
    return [registry.ids[row - FIRST_KNOWN] for row in rows]
