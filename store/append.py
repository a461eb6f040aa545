"""Behaviours into trees that are being read: one server-side script per user, `append.lua`.

What it keeps true, whoever else writes at the same time: order by (ts, row) in every leaf and in the
newest list, a late behaviour in its place; each (user, item, ts) once; the newest list and the leaves
agree; sums and counts of the headers. A reader sees a call's behaviours of one user all or not at all.
An append reads and writes the leaves it touches and no other; a late one moves bytes, nothing more. Of a long
category the older ones are opened by an event older than the own field's, by one that makes the cap drop others, and at
every 128th.

Caps: a leaf never holds more than the cap of a category, its oldest go, and what is older than those is not put
in. A user may exceed the cap by a 64th of it, then the oldest of all leaves go down to the cap; so the walk over all
leaves is paid once in many events.

States of users (`store/states.py`) follow behind: a user who is due, after a late behaviour or at every 32nd,
is named in a stream that their keeper reads. A name that is lost costs time.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from redis import Redis
from redis.exceptions import ResponseError

from store import keys
from store.behaviour_tree import NEWEST
from store.codec import record_dtype
from store.scripts import Call, Script
from store.states_due import EVERY, name_due

SCRIPT = Script(Path(__file__).with_suffix(".lua").read_text())


class UnreadableTree(ResponseError):
    """A value of the user's tree is not of this version: nothing of the user's was written."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What is kept of a user, 0 = no limit. Of a category at least the newest list's length."""

    per_category: int = 0  # behaviours
    per_user: int = 131_072
    ttl_s: int = 0  # without events, then the tree and every state go

    def __post_init__(self) -> None:
        if self.per_category and self.per_category < NEWEST:
            raise ValueError(f"cap per category: {self.per_category}, at least {NEWEST} (the newest list), or 0 for none")
        if self.per_user and self.per_user < 10 * NEWEST:
            raise ValueError(f"cap per user: {self.per_user}, at least {10 * NEWEST}, or 0 for none")


DEFAULT_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A behaviour on its way into a tree."""

    user_id: str
    row: int
    category: int
    ts: int  # Unix seconds
    cross: bytes  # [J] bucket of each cross feature, 0 = missing


class Appender:
    """Appends to the trees of one data set."""

    def __init__(self, redis: Redis, data: str, cross_features: int, caps: Caps = DEFAULT_CAPS) -> None:
        self._redis, self._data, self._caps = redis, data, caps
        self._dtype = record_dtype(cross_features)

    def append(self, arrived: Sequence[Arrived]) -> list[bool]:
        """Put behaviours in; for each, in order, whether it is new (False: it was there already).

        A call that failed can be sent again: what it had written is then there already. Cost: one round trip for
        all users together (one more when the server has lost the script, or a user is due for the states' keeper), and
        7 us of the server a behaviour where a user has many in a call, 45 where one (a copy of its category: 150 where
        that is long and all of it is opened).

        Raises:
            UnreadableTree: a leaf that it needs is damaged or of another version; other users' behaviours may have been written.
            redis.exceptions.RedisError: the store did not acknowledge.
        """
        new = []
        for one in self.append_each(arrived):
            if isinstance(one, Exception):
                raise one
            new.append(one)
        return new

    def append_each(self, arrived: Sequence[Arrived]) -> list[bool | Exception]:
        """The same, with the fault of a user in the place of each of their behaviours: nothing of that user's was written.

        Raises:
            redis.exceptions.RedisError: the store could not be reached.
        """
        of_user: dict[str, list[int]] = defaultdict(list)
        for i, one in enumerate(arrived):
            of_user[one.user_id].append(i)
        records = np.empty(len(arrived), self._dtype)
        records["row"], records["ts"] = [one.row for one in arrived], [one.ts for one in arrived]
        for i, one in enumerate(arrived):
            records["cross"][i] = np.frombuffer(one.cross, np.uint8)
        packed, width, caps = records.tobytes(), self._dtype.itemsize, self._caps
        calls = []
        for user_id, places in of_user.items():
            arguments: list[bytes | int] = [width - 8, NEWEST, caps.per_category, caps.per_user, caps.ttl_s, EVERY]
            for i in places:
                arguments += [b"%d" % arrived[i].category, packed[i * width : (i + 1) * width]]
            own = [keys.tree(self._data, user_id)]
            if caps.ttl_s:  # a key that need not exist would hold the call up while a slot is moved
                own.append(keys.states(self._data, user_id))
            calls.append(Call(own, arguments))
        new: list[bool | Exception] = [False] * len(arrived)
        due = []
        for (user_id, places), reply in zip(
            of_user.items(), SCRIPT.run_all(self._redis, calls, raise_on_error=False), strict=True
        ):
            if isinstance(reply, ResponseError) and "BADRECORD" in str(reply):
                reply = UnreadableTree(f"user {user_id}: field {str(reply).split()[-1]} of the tree is not readable")
            if isinstance(reply, Exception):
                for i in places:
                    new[i] = reply
            else:
                *put, states_due = reply
                due += [user_id] * states_due
                for i, one in zip(places, put, strict=True):
                    new[i] = bool(one)
        name_due(self._redis, self._data, due)
        return new
