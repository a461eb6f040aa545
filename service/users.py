"""GET /users/{id}/behaviours and DELETE /users/{id}: what the store holds of one user, and that gone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from redis import Redis
from redis.exceptions import RedisError

from service.bundles import Bundles
from service.errors import InvalidRequest, NoModel, StoreFailed
from store import keys
from store.behaviour_tree import BehaviourTree
from store.connection import text
from store.ids import InvalidId, canonical_id
from store.registry import StoredRegistry

MAX_LISTED = 10_000
CURSOR = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")  # time and row: no two behaviours of a user share both


class UserTrees:
    """The trees of the data set that is served, one user at a time."""

    def __init__(self, redis: Redis, bundles: Bundles) -> None:
        self._redis, self._bundles = redis, bundles

    def behaviours(self, user_id: str, limit: int, after: str = "") -> bytes:
        """The newest `limit` behaviours as JSON, newest first; `total` is how many there are. An unknown user has none.

        `next` goes on where a listing ended, given as `after`: None at the end. It names a place in time, which stays where
        it is while events come and go. Cost: the whole life is read for every page.

        Raises:
            InvalidRequest: no id, a limit out of range or no cursor; NoModel: the schema is a bundle's, and none is loaded.
            StoreFailed: the store did not answer.
        """
        if not 1 <= limit <= MAX_LISTED:
            raise InvalidRequest(f"limit: {limit}, limit {MAX_LISTED if limit > MAX_LISTED else 1}", "limit")
        cursor = CURSOR.fullmatch(after)
        if after and cursor is None:
            raise InvalidRequest(f"after: {after!r}, the `next` of an answer is needed", "after")
        if not self._bundles.all:
            raise NoModel("users: no bundle is loaded, and the schema comes with one")
        schema = self._bundles.all[0].bundle.manifest.schema_
        with answering(user_id) as user:
            tree = BehaviourTree(self._redis, schema.data, len(schema.cross_features))
            life = tree.read_life(user)
            left = life.behaviours
            if cursor is not None:
                ts, row = int(cursor[1]), int(cursor[2])
                left = left.select((left.ts < ts) | ((left.ts == ts) & (left.row < row)))
            newest = left.select(slice(-limit, None))
            item_ids = StoredRegistry(self._redis, schema.data).ids_of(sorted(set(newest.row.tolist())))
            categories = {int(row): text(name) for name, row in self._redis.hgetall(keys.categories(schema.data)).items()}
        listed = [
            {
                "item_id": item_ids.get(int(newest.row[i])),
                "category": categories.get(int(newest.category[i])),
                "ts": int(newest.ts[i]),
                "buckets": {feature.name: int(newest.cross[i, j]) for j, feature in enumerate(schema.cross_features)},
            }
            for i in range(len(newest) - 1, -1, -1)
        ]
        return orjson.dumps(
            {
                "user_id": user, "total": len(life.behaviours), "bad_records": life.bad_records, "behaviours": listed,
                "next": f"{newest.ts[0]}-{newest.row[0]}" if len(newest) < len(left) else None,
            }
        )  # fmt: skip

    def delete(self, user_id: str) -> bytes:
        """Remove tree, newest list and every state; `removed` says whether there was any.

        Raises:
            InvalidRequest: no id; StoreFailed: the store did not answer.
        """
        with answering(user_id) as user:
            removed = BehaviourTree(self._redis, self._bundles.data, 0).delete(user)
        return orjson.dumps({"user_id": user, "removed": removed})


@contextmanager
def answering(user_id: str) -> Iterator[str]:
    """The id's one form; faults of the store as errors of the call."""
    try:
        yield canonical_id(user_id)
    except InvalidId as error:
        raise InvalidRequest(f"user_id: {error}", "user_id") from None
    except RedisError as error:
        raise StoreFailed(f"store: {error}", "store") from None
