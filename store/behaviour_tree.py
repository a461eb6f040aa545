"""The user-behaviour tree: user -> category -> behaviours (SIM, 4.2), one HASH per user.

Field = category row (decimal), value = packed behaviours, oldest first. The field `n` beside them
holds the newest ones of all categories, so that a short history is one small read; `t` and `a` count. A
request's categories are one HMGET, a whole life is one HGETALL.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from redis import Redis

from store import keys
from store.checked_values import ANY_BUCKET, HEADER_BYTES, Values, check_values
from store.codec import encode, record_dtype
from store.leaf_order import in_one_order
from store.put_tree import SCRIPT, flat_of, put_tree
from store.registry import Registry
from store.search.spec import Reads
from store.types import Behaviours, Blobs, Rows

NEWEST = 100  # behaviours in the newest list

NO_CATEGORY = (ValueError, OverflowError)  # what the name of a field raises that is none


@dataclass(frozen=True, slots=True)
class Read:
    """What a read gave: the behaviours, and how many values could not be read and were left out."""

    behaviours: Behaviours
    bad_records: int
    arrived: int = 0  # the tree's arrivals clock; 0 = there is no tree, or it was not asked for
    total: int = 0  # behaviours that the tree counts, likewise
    older: int = 0  # behaviours of the categories asked for that were left out, since only the newest of each were wanted

    @property
    def whole(self) -> bool:
        """Whether these are all behaviours of the user."""
        return len(self.behaviours) == self.total


class BehaviourTree:
    """Trees of one data set."""

    def __init__(self, redis: Redis, data: str, cross_features: int, buckets: list[int] | None = None) -> None:
        """`buckets`: how many values each cross feature can have; a record beyond them is a bad one. None = not checked."""
        self._redis, self._data, self._cross_features = redis, data, cross_features
        self._buckets = np.array([ANY_BUCKET] * cross_features if buckets is None else buckets, np.int32)

    def read(
        self, user_id: str, reads: Reads, categories: Rows, recent: int, registry: Registry, before: int | None, newest: int = 0
    ) -> Read:  # fmt: skip
        """Behaviours of a user that a search needs, in order.

        Args:
            reads: `newest` = the newest list; `categories` = those beside it; `life` = everything.
            categories: category rows of the request, distinct; read when `reads` says so.
            recent: how many of the newest behaviours the caller needs.
            registry: gives the category of behaviours in the newest list.
            before: only behaviours with ts < before; None = all.
            newest: how many of each category the caller needs, where those are what is read; 0 = all. Older ones are checked
                and counted as `older`, and left out.

        Returns:
            the behaviours; the newest `recent` of the user's life are always their end. An unknown
            user has none. Cost: one round trip, two where the newest list is too short or cut by `before`.

        Raises:
            redis.exceptions.RedisError: the store did not answer, or answered an error.
        """
        if reads == "life":
            return self.read_life(user_id, before)
        asked = categories.tolist() if reads == "categories" else []
        fields = [*(b"%d" % category for category in asked), keys.NEWEST_FIELD]  # a category's own field wins
        replies = self._redis.hmget(keys.tree(self._data, user_id), fields)
        there = [place for place, value in enumerate(replies) if isinstance(value, bytes)]
        blobs: list[bytes] = [replies[place] for place in there]  # type: ignore[misc]
        values = check_values(blobs, self._buckets, before, newest and max(newest, recent, NEWEST))
        listed = bool(there) and there[-1] == len(asked)  # whether the last is the newest list
        if listed:
            if values.fault[-1]:
                life = self.read_life(user_id, before)  # holds what the list would have told
                return Read(life.behaviours, life.bad_records + 1)
            if self._count(blobs[-1]) >= NEWEST and values.earlier[-1] < recent:
                return self.read_life(user_id, before)
        category = np.array([*asked, 0], np.int32)[there]
        return self._in_order(values, category, registry.category_of if listed else None)

    def read_life(self, user_id: str, before: int | None = None) -> Read:
        """Everything the tree holds of a user, each behaviour under its own category."""
        life: Blobs = self._redis.hgetall(keys.tree(self._data, user_id))  # type: ignore[assignment]
        return self.decode_life(life, before)

    def decode_life(self, life: Blobs, before: int | None = None) -> Read:
        """The same of a HASH that was read already."""
        leaves = {field: value for field, value in life.items() if field not in keys.OTHER_FIELDS}
        arrived, total = _number(life.get(keys.ARRIVED_FIELD)), _number(life.get(keys.TOTAL_FIELD))
        try:
            category = _category_rows(leaves)
        except NO_CATEGORY:  # rare: find out which
            good = [field for field in leaves if _is_category(field)]
            read = self.decode_life({field: leaves[field] for field in good}, before)
            return replace(read, bad_records=read.bad_records + len(leaves) - len(good), arrived=arrived, total=total)
        read = self._in_order(check_values(list(leaves.values()), self._buckets, before), category, None)
        return replace(read, arrived=arrived, total=total)

    def read_newest(self, user_id: str, snapshot_id: str, registry: Registry) -> tuple[Read, bytes | None]:
        """The newest list, and the packed snapshot of the user if there is one. Cost: one round trip.

        A list that cannot be read is one bad record and no behaviours.
        """
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hget(keys.states(self._data, user_id), snapshot_id)  # first: a snapshot may be older than the tree, not newer
        pipeline.hmget(keys.tree(self._data, user_id), keys.OTHER_FIELDS)
        snapshot, values = pipeline.execute()
        return self._newest(values, registry.category_of), snapshot

    def read_newest_many(self, users: list[str]) -> list[Read]:
        """The newest lists of users, without categories. Cost: one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in users:
            pipeline.hmget(keys.tree(self._data, user_id), keys.OTHER_FIELDS)
        return [self._newest(values, np.zeros_like) for values in pipeline.execute()]

    def _newest(self, values: list[bytes | None], category: Callable[[Rows], Rows]) -> Read:
        """A read of `keys.OTHER_FIELDS`."""
        newest, total, arrived = values
        checked = check_values([] if newest is None else [newest], self._buckets)
        read = self._in_order(checked, np.zeros(len(checked.fault), np.int32), category)
        return replace(read, arrived=_number(arrived), total=_number(total))

    def write(self, user_id: str, behaviours: Behaviours) -> None:
        """Replace the tree of one user, atomically; snapshots of the old one go. None = no tree."""
        if not len(behaviours):
            self.delete(user_id)
            return
        total = len(behaviours)
        SCRIPT.run(self._redis, put_tree(self._data, user_id, flat_of(encode_tree(behaviours)), total, total))

    def delete(self, user_id: str) -> bool:
        """Remove a user's tree and snapshots; whether there was any."""
        return bool(self._redis.unlink(keys.tree(self._data, user_id), keys.states(self._data, user_id)))

    def users(self) -> Iterator[str]:
        """Ids of all users with a tree, in no order."""
        for key in self._redis.scan_iter(match=f"{self._data}:tree:*", count=1000):
            yield keys.user_id_of(key.decode())

    def _count(self, blob: bytes) -> int:
        """How many records a value has that can be read."""
        return (len(blob) - HEADER_BYTES) // record_dtype(self._cross_features).itemsize

    def _in_order(self, values: Values, category: Rows, of_row: Callable[[Rows], Rows] | None) -> Read:
        """One ordered sequence of what is taken of the values, each behaviour once; values that cannot be read are left out.

        Args:
            category: int32 [V], of each value.
            of_row: category rows of item rows, where the last value is the newest list.
        """
        of_last = None
        if of_row is not None and len(category):
            records = np.frombuffer(values.data, record_dtype(self._cross_features), values.taken[-1], values.first[-1])
            of_last = of_row(records["row"].astype(np.int32))
        behaviours = in_one_order(values, self._cross_features, category, of_last)
        bad_records = int(np.count_nonzero(values.fault))
        return Read(behaviours, bad_records, older=int((values.earlier - values.taken).sum()))


def _category_rows(fields: Iterable[bytes]) -> Rows:
    """The category rows that fields of a tree are named after; NO_CATEGORY where one is not."""
    return np.array([int(field) for field in fields], np.int32)


def _is_category(field: bytes) -> bool:
    try:
        _category_rows([field])
    except NO_CATEGORY:
        return False
    return True


def _number(value: bytes | None) -> int:
    """A counter of the tree; one that is none counts as missing."""
    return int(value) if value and value.isdigit() else 0


def encode_tree(behaviours: Behaviours) -> Blobs:
    """Fields and values of one user's HASH, from behaviours in order."""
    by_category = np.argsort(behaviours.category, kind="stable")
    grouped = behaviours.select(by_category)
    categories, starts = np.unique(grouped.category, return_index=True)
    blobs: Blobs = {}
    for category, start, end in zip(categories.tolist(), starts, [*starts[1:], len(grouped)], strict=True):
        leaf = grouped.select(slice(start, end))
        blobs[b"%d" % category] = encode(leaf.row, leaf.ts, leaf.cross)
    newest = behaviours.select(slice(-NEWEST, None))
    blobs[keys.NEWEST_FIELD] = encode(newest.row, newest.ts, newest.cross)
    return blobs
