"""Users' snapshots in the store, read together with the behaviours that came after them.

A read costs one round trip, whatever the length of the life, as long as the newest list reaches back to
the snapshot. Otherwise, or where the snapshot no longer agrees with the tree, the whole life is read: a
snapshot that is late, lost or wrong costs time: what is scored is what the tree holds.

A snapshot is put beside a tree only while the tree's arrivals clock is what it was when the tree was
read, so that none outlives its user, and none hides a behaviour. Snapshots made with other parameters, of
another version of a model, stand in fields of their own: a scorer reads those of the bundle it serves.
"""

import logging
from dataclasses import dataclass, replace
from typing import Literal

from redis import Redis

from store import keys
from store.behaviour_tree import BehaviourTree, Read
from store.registry import Registry
from store.scripts import Call, Script
from store.snapshot import BadSnapshot, Snapshot, SnapshotCodec
from store.types import Behaviours

log = logging.getLogger("longtrail")

How = Literal["tail", "short", "long", "late", "missing", "past", "outdated"]

# KEYS: tree, states. ARGV: the arrivals clock that was read, snapshot_id, snapshot. 1 = put.
PUT = Script("""
if redis.call('HGET', KEYS[1], 'a') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
local left = redis.call('PTTL', KEYS[1])
if left > 0 then redis.call('PEXPIRE', KEYS[2], left) end
return 1
""")


def put_snapshot(data: str, user_id: str, read_at: int, snapshot_id: str, packed: bytes) -> Call:
    """A call of `PUT`: a packed snapshot beside a tree whose clock still shows `read_at`."""
    return Call([keys.tree(data, user_id), keys.states(data, user_id)], [read_at, snapshot_id, packed])


@dataclass(frozen=True, slots=True)
class StateRead:
    """Behaviours of a user, and what stands for the oldest of them.

    `how`: `tail` = a snapshot and the newest list; `short` = no snapshot, the newest list is the whole life. The others
    found no use of a snapshot before they read the life: `long` = the tail is longer than the list, `late` = the tree
    changed before the snapshot's end, `missing` = none of these parameters, `past` = the request is of an earlier time,
    `outdated` = it took items for unknown that are known by now.
    """

    behaviours: Behaviours
    snapshot: Snapshot | None
    how: How
    arrived: int  # the tree's arrivals clock
    bad_records: int = 0  # values of the tree that were left out
    bad_snapshot: bool = False

    @property
    def tail(self) -> int:
        """How many behaviours are after the snapshot."""
        return len(self.behaviours) - (self.snapshot.covers if self.snapshot else 0)


class UserStates:
    """Snapshots of one bundle's parameters."""

    def __init__(self, redis: Redis, data: str, tree: BehaviourTree, codec: SnapshotCodec, registry: Registry) -> None:
        self._redis, self._data, self._tree, self._codec, self._registry = redis, data, tree, codec, registry

    def read(self, user_id: str, recent: int, before: int | None = None) -> StateRead:
        """A user's snapshot and at least the behaviours after it, with ts < before if given.

        Args:
            recent: how many of the user's newest behaviours are needed, in the snapshot or not.

        Cost: one round trip; a second, for the whole life, as `how` says.

        Raises:
            redis.exceptions.RedisError: the store did not answer, or answered an error.
        """
        newest, blob = self._tree.read_newest(user_id, self._codec.snapshot_id, self._registry)
        bad_records, bad_snapshot, snapshot = newest.bad_records, False, None
        if blob is not None:
            try:
                snapshot = self._codec.decode(blob, self._registry.category_of)
            except BadSnapshot as error:
                log.debug("user %s: snapshot %s is not read: %s", user_id, self._codec.snapshot_id, error)
                bad_snapshot = True
        how = self._how(snapshot, newest, before)
        behaviours, arrived = newest.behaviours, newest.arrived
        enough = how in ("tail", "short") and _count(behaviours, before) >= recent
        if not enough and not newest.whole:
            life = self._tree.read_life(user_id)  # holds what the newest list would have told
            behaviours, arrived, bad_records = life.behaviours, life.arrived, bad_records + life.bad_records
        usable = snapshot is not None and how not in ("past", "outdated") and snapshot.agrees(behaviours, arrived)
        if snapshot is not None:
            snapshot = replace(snapshot, covers=snapshot.first_newer(behaviours)) if usable else None
        if before is not None:
            behaviours = behaviours.select(behaviours.ts < before)
        return StateRead(behaviours, snapshot, how, arrived, bad_records, bad_snapshot)

    def _how(self, snapshot: Snapshot | None, newest: Read, before: int | None) -> How:
        """What the newest list says of a snapshot."""
        if snapshot is None:
            return "short" if newest.whole else "missing"
        if before is not None and snapshot.ts >= before:
            return "past"
        if snapshot.known_rows and snapshot.known_rows < self._registry.item_rows:
            return "outdated"
        if snapshot.agrees(newest.behaviours, newest.arrived):
            return "tail"
        reaches = newest.whole or snapshot.first_newer(newest.behaviours) > 0
        return "late" if reaches else "long"

    def put(self, user_id: str, snapshot: Snapshot, read_at: int) -> bool:
        """Put a snapshot in the place of the one there is.

        `read_at`: what the arrivals clock showed when the tree was read; False: it shows something else by now, and
        nothing was put.
        """
        call = put_snapshot(self._data, user_id, read_at, self._codec.snapshot_id, self._codec.encode(snapshot))
        return bool(PUT.run(self._redis, call))


def _count(behaviours: Behaviours, before: int | None) -> int:
    return len(behaviours) if before is None else int((behaviours.ts < before).sum())
