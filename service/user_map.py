"""A user's tree as the page shows it: behaviours counted by category and time, and candidates to begin with.

Whatever the life's length, an answer has a few thousand numbers: 100,000 behaviours are added up here, not in a browser.
"""

import numpy as np
import orjson
from redis import Redis

from service.bundles import Bundles
from service.errors import InvalidRequest, NoModel
from service.users import answering
from store import keys
from store.behaviour_tree import BehaviourTree
from store.connection import text
from store.registry import Registry
from store.types import Behaviours

BINS = 36  # of time
MAX_BINS = 200
CATEGORIES = 30  # the largest; the others are one line
CANDIDATES = 40  # that are suggested


class UserMaps:
    """Maps of the users of the data set that is served."""

    def __init__(self, redis: Redis, bundles: Bundles) -> None:
        self._redis, self._bundles = redis, bundles

    def of(self, user_id: str, bins: int = BINS) -> bytes:
        """Counts of one user's behaviours as JSON: `edges` Unix seconds [bins + 1], and `counts` [bins] of each category, the
        largest first. Cost: the whole life is read.

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
        edges = np.linspace(first, last + 1, bins + 1)
        rows = _rows(life, edges)
        return orjson.dumps({
            "user_id": user, "total": len(life), "bad_records": read.bad_records,
            "edges": np.floor(edges).astype(np.int64).tolist(),
            "categories": [
                {"category": names.get(row), "total": int(counts.sum()), "counts": counts.tolist()} for row, counts in rows
            ],
            "other_categories": max(len(np.unique(life.category)) - len(rows), 0),
            "suggested": suggested(life, bundle.registry, user),
        })  # fmt: skip


def _rows(life: Behaviours, edges: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> "list[tuple[int, np.ndarray]]":
    """Category rows of the largest categories, and their behaviours in each bin."""
    categories, place = np.unique(life.category, return_inverse=True)
    if not len(categories):
        return []
    bins = len(edges) - 1
    at = np.clip(np.searchsorted(edges, life.ts, side="right") - 1, 0, bins - 1)
    counts = np.bincount(place * bins + at, minlength=len(categories) * bins).reshape(-1, bins)
    largest = np.argsort(-counts.sum(axis=1), kind="stable")[:CATEGORIES]
    return [(int(categories[c]), counts[c]) for c in largest]


def suggested(life: Behaviours, registry: Registry, user: str) -> list[str]:
    """Candidates to try: half of them the user's newest items, half others of the same categories; of anything for a new user."""
    random = np.random.default_rng(list(user.encode()))
    newest = list(dict.fromkeys(registry.known(life.row[::-1]).tolist()))
    own = [row for row in newest if row >= 2][: CANDIDATES // 2]
    alike = (
        np.flatnonzero(np.isin(registry.category, np.unique(registry.category[own]))) if own else np.arange(registry.item_rows)
    )
    alike = alike[alike >= 2]
    others = random.choice(alike, min(CANDIDATES, len(alike)), replace=False).tolist() if len(alike) else []
    rows = list(dict.fromkeys([*own, *others]))[:CANDIDATES]
    return [registry.ids[row - 2] for row in rows]
