"""Trees of many users into the store, beside whoever appends to them.

A user without a tree gets one, whole; a tree that lacks behaviours gets them, and keeps what else it holds; one that has
them all is only compared, and keeps its snapshots. Two pipelines a batch: the trees are read, then what is to be written is
written, each tree by one atomic script. A tree that changed in between is read again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.exceptions import ResponseError

from store import keys
from store.append import Caps
from store.behaviour_tree import BehaviourTree
from store.encode_trees import EncodedTrees, Lives, encode_trees
from store.put_tree import ABSENT, ANY, SCRIPT, clock, flat_of, put_tree
from store.scripts import Call
from store.states_due import name_due
from store.types import Behaviours, Blobs

READ_AT_ONCE = 1_000_000  # behaviours of trees that are there already: 12 MB here and in the server


class TreeLoader:
    """Loads trees of one data set."""

    def __init__(self, redis: Redis, data: str, cross_features: int, caps: Caps) -> None:
        """`caps` as in `store/append.py`."""
        self._redis, self._data, self._caps = redis, data, caps
        self._tree = BehaviourTree(redis, data, cross_features)

    def load(self, users: Sequence[str], lives: Lives) -> NDArray[np.bool_]:
        """Bring behaviours into the trees; for each user, whether the tree was made or changed.

        Args:
            users: ids; `lives.user` are places among them. Order and repetitions do not matter.

        Cost: three round trips, and two more for every million behaviours that the trees hold; about 0.5 us a behaviour on
        either side where there was no tree.

        Raises:
            redis.exceptions.RedisError: the store failed; sending the batch again is safe.
        """
        lives = lives.in_order()
        encoded = encode_trees(lives.capped(self._caps), len(users))
        changed = np.zeros(len(users), np.bool_)
        waiting = [user for user in range(len(users)) if encoded.totals[user]]
        held = self._totals(users)
        at_once, joined = len(waiting), []
        while waiting:
            some, waiting = _some(waiting, at_once, held)
            calls: dict[int, Call] = {}
            for user, life in zip(some, self._read([users[user] for user in some]), strict=True):
                if life:
                    call = self._joined(users[user], user, life, encoded, lives)
                    joined += [users[user]] if call is not None else []
                else:
                    call = self._new(users[user], user, ABSENT if life is not None else ANY, encoded)
                if call is not None:
                    calls[user] = call
            written = dict(zip(calls, SCRIPT.run_all(self._redis, list(calls.values())), strict=True))
            changed[[user for user in written if written[user]]] = True
            if again := [user for user in written if not written[user]]:  # the tree was another one by then
                waiting += again
                at_once = max(1, at_once // 2)  # the less time between read and write, the less gets in between
        name_due(self._redis, self._data, list(dict.fromkeys(joined)))  # their states are gone
        return changed

    def _totals(self, users: Sequence[str]) -> list[int]:
        """How many behaviours their trees say they hold."""
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in users:
            pipeline.hget(keys.tree(self._data, user_id), keys.TOTAL_FIELD)
        replies = pipeline.execute(raise_on_error=False)
        return [min(int(reply), READ_AT_ONCE) if isinstance(reply, bytes) and reply.isdigit() else 0 for reply in replies]

    def _new(self, user_id: str, user: int, seen: bytes, encoded: EncodedTrees) -> Call:
        total = encoded.totals[user]
        return put_tree(self._data, user_id, encoded.flat(user), total, total, seen, ttl_s=self._caps.ttl_s)

    def _joined(self, user_id: str, user: int, life: Blobs, encoded: EncodedTrees, lives: Lives) -> Call | None:
        """What a tree needs to hold these behaviours as well; None = nothing."""
        leaves = {field: value for field, value in life.items() if field not in (keys.TOTAL_FIELD, keys.ARRIVED_FIELD)}
        if leaves == encoded.blobs(user):
            return None
        held = self._tree.decode_life(life).behaviours  # without values that cannot be read
        both, added = self._both(held, user, lives)
        blobs = encode_trees(both, 1).blobs(0)
        gone = [field for field in leaves if field not in blobs]
        put = {field: value for field, value in blobs.items() if life.get(field) != value}
        if not put and not gone:
            return None
        total = life.get(keys.TOTAL_FIELD, b"")
        return put_tree(self._data, user_id, flat_of(put), len(both), added, clock(life), total, gone, self._caps.ttl_s)

    def _both(self, held: Behaviours, user: int, lives: Lives) -> tuple[Lives, int]:
        """What the tree shall hold, and how many of them it does not hold yet; without such it stays, whatever the caps."""
        first, last = np.searchsorted(lives.user, [user, user + 1])
        own = slice(first, last)
        mine = Behaviours(lives.row[own], lives.category[own], lives.ts[own], lives.cross[own])
        both = _of_one(Behaviours.concatenated(held, mine)).capped(self._caps)
        added = int(np.count_nonzero(~np.isin(both.ts << 31 | both.row, held.ts << 31 | held.row)))
        return (both, added) if added else (_of_one(held), 0)

    def _read(self, users: Sequence[str]) -> list[Blobs | None]:
        """Their trees, empty where there is none; None = something that is no tree."""
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in users:
            pipeline.hgetall(keys.tree(self._data, user_id))
        lives: list[Blobs | None] = []
        for reply in pipeline.execute(raise_on_error=False):
            foreign = isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")
            if isinstance(reply, Exception) and not foreign:
                raise reply
            lives.append(None if foreign else reply)
        return lives


def _some(waiting: list[int], at_once: int, held: list[int]) -> tuple[list[int], list[int]]:
    """The first few users, whose trees are read together, and the rest: memory is bounded by what the trees hold."""
    behaviours, count = 0, 0
    while count < min(at_once, len(waiting)) and (not count or behaviours + held[waiting[count]] <= READ_AT_ONCE):
        behaviours += held[waiting[count]]
        count += 1
    return waiting[:count], waiting[count:]


def _of_one(life: Behaviours) -> Lives:
    return Lives(np.zeros(len(life), np.int64), life.row, life.category, life.ts, life.cross)
