"""Behaviours into trees that are being read: one server-side script per user, `append.lua`.

What it keeps true, whoever else writes at the same time: order by (ts, row) in every leaf and in the
newest list, a late behaviour in its place; each (user, item, ts) once; the newest list and the leaves
agree; sums and counts of the headers. A reader sees a call's behaviours of one user all or not at all.
An append reads and writes the leaves it touches and no other; a late one moves bytes, nothing more.

Caps: a leaf never holds more than the cap of a category, its oldest go. A user may exceed the cap by a
64th of it, then the oldest of all leaves go down to the cap, whole seconds at a time; so the walk over
all leaves is paid once in many events.
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

SCRIPT = Script(Path(__file__).with_suffix(".lua").read_text())


class UnreadableTree(ResponseError):
    """A value of the user's tree is not of this version: nothing of the user's was written."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Most behaviours that are kept, 0 = no limit. Of a category at least the newest list's length."""

    per_category: int = 0
    per_user: int = 131_072

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
        all users together (one more when the server has lost the script), and about 15 us of the server a behaviour.

        Raises:
            UnreadableTree: a leaf is damaged or of another version; other users' behaviours may have been written.
            redis.exceptions.RedisError: the store did not acknowledge.
        """
        of_user: dict[str, list[int]] = defaultdict(list)
        for i, one in enumerate(arrived):
            of_user[one.user_id].append(i)
        records = np.empty(len(arrived), self._dtype)
        records["row"], records["ts"] = [one.row for one in arrived], [one.ts for one in arrived]
        for i, one in enumerate(arrived):
            records["cross"][i] = np.frombuffer(one.cross, np.uint8)
        packed, width = records.tobytes(), self._dtype.itemsize
        calls = []
        for user_id, places in of_user.items():
            arguments: list[bytes | int] = [width - 8, NEWEST, self._caps.per_category, self._caps.per_user]
            for i in places:
                arguments += [b"%d" % arrived[i].category, packed[i * width : (i + 1) * width]]
            calls.append(Call([keys.tree(self._data, user_id)], arguments))
        new = [False] * len(arrived)
        for (user_id, places), reply in zip(
            of_user.items(), SCRIPT.run_all(self._redis, calls, raise_on_error=False), strict=True
        ):
            if isinstance(reply, ResponseError) and "BADRECORD" in str(reply):
                raise UnreadableTree(f"user {user_id}: field {str(reply).split()[-1]} of the tree is not readable")
            if isinstance(reply, Exception):
                raise reply
            for i, put in zip(places, reply, strict=True):
                new[i] = bool(put)
        return new
