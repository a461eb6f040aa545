"""The user-behaviour tree: user -> category -> behaviours (SIM, 4.2), one HASH per user.

Field = category row (decimal), value = packed behaviours, oldest first; of a long category the older ones
stand in a field beside it (`store/codec.py`). The field `n` beside them
holds the newest ones of all categories, so that a short history is one small read; `t` and `a` count. A
request's categories are one HMGET, a whole life is one HGETALL.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from redis import Redis

from store import keys
from store.checked_values import ANY_BUCKET, CHUNK, Values, check_values
from store.codec import encode, record_dtype
from store.field_names import read_names
from store.leaf_order import in_one_order
from store.put_tree import SCRIPT, flat_of, put_tree
from store.registry import Registry
from store.search.spec import Reads
from store.types import Behaviours, Blobs, Mask, Rows, Seconds

NEWEST = 100  # behaviours in the newest list, at most CHUNK: as many of a category are in its own field

ALL = 2**32  # more than a value has records


@dataclass(frozen=True, slots=True)
class Read:
    """What a read gave: the behaviours, and how much could not be read and was left out."""

    behaviours: Behaviours
    bad_records: int  # values; and categories whose older records are not those that their own value speaks of
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
            newest: how many of each category the caller needs, where those are what is read; 0 = all. Older ones are
                counted as `older`, and left out; those in the same value are checked.

        Returns:
            the behaviours; the newest `recent` of the user's life are always their end. An unknown
            user has none. Cost: one round trip, two where the newest list is too short or cut by `before`, or a category's
            older ones are needed: not for 128 of each or fewer of now. Three where such a category changed in between.

        Raises:
            redis.exceptions.RedisError: the store did not answer, or answered an error.
        """
        if reads == "life":
            return self.read_life(user_id, before)
        asked = categories.tolist() if reads == "categories" else []
        fields = [*(keys.LEAF_FIELD % category for category in asked), keys.NEWEST_FIELD]  # a category's own field wins
        replies = self._redis.hmget(keys.tree(self._data, user_id), fields)
        there = [place for place, value in enumerate(replies) if isinstance(value, bytes)]
        blobs: list[bytes] = [replies[place] for place in there]  # type: ignore[misc]
        needed = newest and max(newest, recent, NEWEST)
        values = check_values(blobs, self._buckets, before, needed)
        listed = bool(there) and there[-1] == len(asked)  # whether the last is the newest list
        if listed:
            if values.fault[-1] or values.older[-1]:  # nothing stands before the list
                life = self.read_life(user_id, before)  # holds what the list would have told
                return Read(life.behaviours, life.bad_records + 1)
            if values.size[-1] >= NEWEST and values.earlier[-1] < recent:
                return self.read_life(user_id, before)
        category = np.array([*asked, 0], np.int32)[there]
        lacking = (values.older > 0) & (values.earlier < (needed or ALL))
        unread = int(values.older[~lacking].sum())
        if lacking.any():
            both = self._with_older(user_id, blobs, category, lacking)
            if both is None:
                return self.read_life(user_id, before)
            values, category = check_values(both, self._buckets, before), np.repeat(category, lacking + 1)
            place = np.cumsum(lacking + 1)[lacking] - 1  # of the older records' values, which stand behind their categories' own
            if (values.size[place] != values.older[place - 1]).any():
                return self.read_life(user_id, before)
            if needed:
                values = _newest_together(values, lacking + 1, needed, record_dtype(self._cross_features).itemsize)
        return self._in_order(values, category, registry.category_of if listed else None, unread)

    def _with_older(self, user_id: str, blobs: Sequence[bytes], category: Rows, lacking: Mask) -> list[bytes] | None:
        """Behind each value that lacks them its category's older records; None = it changed meanwhile, or there are none."""
        names = keys.LEAF_FIELD, keys.OLDER_FIELD
        fields = [name % own for own in category[lacking].tolist() for name in names]
        replies = iter(self._redis.hmget(keys.tree(self._data, user_id), fields))
        both: list[bytes] = []
        for blob, lacks in zip(blobs, lacking.tolist(), strict=True):
            both.append(blob)
            if lacks:
                again, older = next(replies), next(replies)
                if again != blob or older is None:
                    return None
                both.append(older)  # type: ignore[arg-type]
        return both

    def read_life(self, user_id: str, before: int | None = None) -> Read:
        """Everything the tree holds of a user, each behaviour under its own category."""
        life: Blobs = self._redis.hgetall(keys.tree(self._data, user_id))  # type: ignore[assignment]
        return self.decode_life(life, before)

    def decode_life(self, life: Blobs, before: int | None = None) -> Read:
        """The same of a HASH that was read already."""
        leaves = {field: value for field, value in life.items() if field not in keys.OTHER_FIELDS}
        arrived, total = _number(life.get(keys.ARRIVED_FIELD)), _number(life.get(keys.TOTAL_FIELD))
        category, older = read_names(leaves)
        nameless = int(np.count_nonzero(category < 0))
        if nameless:
            leaves = {field: leaves[field] for field, own in zip(leaves, category.tolist(), strict=True) if own >= 0}
            category, older = category[category >= 0], older[category >= 0]
        values = check_values(list(leaves.values()), self._buckets, before)
        read = self._in_order(values, category, None)
        bad_records = read.bad_records + nameless + _with_other_older(values, category, older)
        return replace(read, bad_records=bad_records, arrived=arrived, total=total)

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

    def _in_order(self, values: Values, category: Rows, of_row: Callable[[Rows], Rows] | None, unread: int = 0) -> Read:
        """One ordered sequence of what is taken of the values, each behaviour once; values that cannot be read are left out.

        Args:
            category: int32 [V], of each value.
            of_row: category rows of item rows, where the last value is the newest list.
            unread: how many older ones were not asked for.
        """
        of_last = None
        if of_row is not None and len(category):
            records = np.frombuffer(values.data, record_dtype(self._cross_features), values.taken[-1], values.first[-1])
            of_last = of_row(records["row"].astype(np.int32))
        behaviours = in_one_order(values, self._cross_features, category, of_last)
        bad_records = int(np.count_nonzero(values.fault))
        return Read(behaviours, bad_records, older=int((values.earlier - values.taken).sum()) + unread)


def _newest_together(values: Values, counts: Seconds, newest: int, width: int) -> Values:
    """Of so many values of a category, each of which has older records than the one before it, the newest together."""
    newer = np.cumsum(values.earlier) - values.earlier
    newer -= np.repeat(newer[np.cumsum(counts) - counts], counts)
    taken = np.clip(newest - newer, 0, values.earlier)
    return replace(values, first=values.first + (values.taken - taken) * width, taken=taken)


def _with_other_older(values: Values, category: Rows, older: Mask) -> int:
    """How many categories have other older records than their own value says, where both can be read."""
    said, there = np.flatnonzero(values.older), np.flatnonzero(older)
    if len(said) == len(there):  # nearly always they agree, and few of all values are looked at
        said, there = said[np.argsort(category[said])], there[np.argsort(category[there])]
        if np.array_equal(category[said], category[there]) and np.array_equal(values.older[said], values.size[there]):
            return 0
    _, place = np.unique(category, return_inverse=True)
    differs = np.bincount(place, np.where(older, values.size, -values.older)) != 0
    differs[place[values.fault > 0]] = False
    return int(np.count_nonzero(differs))


def _number(value: bytes | None) -> int:
    """A counter of the tree; one that is none counts as missing."""
    return int(value) if value and value.isdigit() else 0


def encode_tree(behaviours: Behaviours) -> Blobs:
    """Fields and values of one user's HASH, from behaviours in order."""
    by_category = np.argsort(behaviours.category, kind="stable")
    grouped = behaviours.select(by_category)
    categories, starts = np.unique(grouped.category, return_index=True)
    blobs: Blobs = {}
    for category, start, end in zip(categories.tolist(), starts.tolist(), [*starts[1:].tolist(), len(grouped)], strict=True):
        older = max((end - start) // CHUNK - 1, 0) * CHUNK
        if older:
            first = grouped.select(slice(start, start + older))
            blobs[keys.OLDER_FIELD % category] = encode(first.row, first.ts, first.cross)
        leaf = grouped.select(slice(start + older, end))
        blobs[keys.LEAF_FIELD % category] = encode(leaf.row, leaf.ts, leaf.cross, older)
    newest = behaviours.select(slice(-NEWEST, None))
    blobs[keys.NEWEST_FIELD] = encode(newest.row, newest.ts, newest.cross)
    return blobs
