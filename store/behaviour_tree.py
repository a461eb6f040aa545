"""The user-behaviour tree: user -> category -> behaviours (SIM, 4.2), one HASH per user.

Field = category row (decimal), value = packed behaviours, oldest first. The field `n` beside them
holds the newest ones of all categories, so that a short history is one small read; `t` and `a` count. A
request's categories are one HMGET, a whole life is one HGETALL.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from redis import Redis

from store import keys
from store.codec import BadRecord, decode, decode_many, encode
from store.put_tree import SCRIPT, flat_of, put_tree
from store.registry import Registry
from store.search.spec import Reads
from store.types import Behaviours, Blobs, Rows

NEWEST = 100  # behaviours in the newest list

UNREADABLE = (BadRecord, ValueError, OverflowError)  # a value, or the name of its field


@dataclass(frozen=True, slots=True)
class Read:
    """What a read gave: the behaviours, and how many values could not be read and were left out."""

    behaviours: Behaviours
    bad_records: int
    arrived: int = 0  # the tree's arrivals clock; 0 = there is no tree, or it was not asked for
    total: int = 0  # behaviours that the tree counts, likewise

    @property
    def whole(self) -> bool:
        """Whether these are all behaviours of the user."""
        return len(self.behaviours) == self.total


class BehaviourTree:
    """Trees of one data set."""

    def __init__(self, redis: Redis, data: str, cross_features: int, buckets: list[int] | None = None) -> None:
        """`buckets`: how many values each cross feature can have; a record beyond them is a bad one. None = not checked."""
        self._redis, self._data, self._cross_features = redis, data, cross_features
        self._buckets = None if buckets is None else np.array(buckets)

    def read(self, user_id: str, reads: Reads, categories: Rows, recent: int, registry: Registry, before: int | None) -> Read:
        """Behaviours of a user that a search needs, in order.

        Args:
            reads: `newest` = the newest list; `categories` = those beside it; `life` = everything.
            categories: category rows of the request, distinct; read when `reads` says so.
            recent: how many of the newest behaviours the caller needs.
            registry: gives the category of behaviours in the newest list.
            before: only behaviours with ts < before; None = all.

        Returns:
            the behaviours; the newest `recent` of the user's life are always their end. An unknown
            user has none. Cost: one round trip, two where the newest list is too short or cut by `before`.

        Raises:
            redis.exceptions.RedisError: the store did not answer, or answered an error.
        """
        if reads == "life":
            return self.read_life(user_id, before)
        fields = [keys.NEWEST_FIELD, *(b"%d" % category for category in categories.tolist() if reads == "categories")]
        values = self._redis.hmget(keys.tree(self._data, user_id), fields)
        blobs: Blobs = {field: value for field, value in zip(fields, values, strict=True) if isinstance(value, bytes)}
        try:
            too_few = self._too_few(blobs.get(keys.NEWEST_FIELD), recent, before)
        except BadRecord:
            life = self.read_life(user_id, before)  # holds what the list would have told
            return Read(life.behaviours, life.bad_records + 1)
        return self.read_life(user_id, before) if too_few else self._decode(blobs, registry.category_of, before)

    def read_life(self, user_id: str, before: int | None = None) -> Read:
        """Everything the tree holds of a user, each behaviour under its own category."""
        life: Blobs = self._redis.hgetall(keys.tree(self._data, user_id))  # type: ignore[assignment]
        return self.decode_life(life, before)

    def decode_life(self, life: Blobs, before: int | None = None) -> Read:
        """The same of a HASH that was read already."""
        leaves = {field: value for field, value in life.items() if field not in keys.OTHER_FIELDS}
        arrived, total = _number(life.get(keys.ARRIVED_FIELD)), _number(life.get(keys.TOTAL_FIELD))
        return replace(self._decode(leaves, None, before), arrived=arrived, total=total)

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
        read = self._decode({} if newest is None else {keys.NEWEST_FIELD: newest}, category, None)
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

    def _too_few(self, newest: bytes | None, recent: int, before: int | None) -> bool:
        """Whether the newest list gives fewer than `recent`, though the user may have more."""
        if newest is None:
            return False
        _, ts, _ = decode(newest, self._cross_features)
        usable = len(ts) if before is None else int(np.count_nonzero(ts < before))
        return len(ts) >= NEWEST and usable < recent

    def _decode(self, blobs: Blobs, category: Callable[[Rows], Rows] | None, before: int | None) -> Read:
        """One ordered sequence of everything in the blobs, each behaviour once; values that cannot be read are left out.

        `category`: of rows, where the newest list is among the blobs.
        """
        fields = sorted(blobs, key=lambda name: name == keys.NEWEST_FIELD)  # a category's own field wins
        if not fields:
            return Read(Behaviours.empty(self._cross_features), 0)
        bad_records = 0
        try:
            parts = [self._together(fields, blobs, category)]
        except UNREADABLE:  # rare: find out which
            parts = []
            for field in fields:
                try:
                    parts.append(self._together([field], blobs, category))
                except UNREADABLE:
                    bad_records += 1
        if not parts:
            return Read(Behaviours.empty(self._cross_features), bad_records)
        behaviours = Behaviours.concatenated(*parts)
        return Read(behaviours if before is None else behaviours.select(behaviours.ts < before), bad_records)

    def _together(self, fields: list[bytes], blobs: Blobs, category_of: Callable[[Rows], Rows] | None) -> Behaviours:
        """All values one behind another, the newest list last; one bad value refuses all."""
        row, ts, cross, counts = decode_many([blobs[field] for field in fields], self._cross_features)
        if self._buckets is not None and (cross >= self._buckets).any():
            raise BadRecord("a bucket that the schema does not have")
        has_newest = category_of is not None and fields[-1] == keys.NEWEST_FIELD
        leaves = fields[:-1] if has_newest else fields
        category = np.repeat(np.array([int(field) for field in leaves], np.int32), counts[: len(leaves)])
        if category_of is not None and has_newest:
            category = np.concatenate([category, category_of(row[len(category) :])])
        return Behaviours(row, category, ts, cross)


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
