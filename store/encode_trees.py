"""The trees of many users at once: behaviours in arrays -> fields and values of each user's HASH.

One sort, one array of records, one running sum for all headers; what is left per value is two slices. The
bytes are those of `behaviour_tree.encode_tree`, user by user.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store import keys
from store.append import Caps
from store.behaviour_tree import NEWEST
from store.checked_values import CHUNK, HEADER_BYTES, OLDER_BYTES, OLDER_FACTOR, VERSION, VERSION_WITH_OLDER
from store.codec import pack_records, running_sums
from store.types import Blobs, Bytes, Mask, Rows, Seconds

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lives:
    """Behaviours of many users, L in all; `user` numbers the users from 0."""

    user: Places  # [L]
    row: Rows  # [L]
    category: Rows  # [L] a row's category: equal rows have equal ones
    ts: Seconds  # [L]
    cross: Bytes  # [L, J]

    def __len__(self) -> int:
        return len(self.user)

    def select(self, index: Places | Mask) -> "Lives":
        """The behaviours at `index`, all arrays together."""
        return Lives(self.user[index], self.row[index], self.category[index], self.ts[index], self.cross[index])

    def in_order(self) -> "Lives":
        """Sorted by (user, ts, row), each once, the first kept. Cost: one look where they are already."""
        at = self.ts << 31 | self.row
        later, same = np.diff(at) > 0, np.diff(self.user)
        if ((same > 0) | (same == 0) & later).all():
            return self
        order = np.lexsort((at, self.user))  # stable
        user, at = self.user[order], at[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (np.diff(user) != 0) | (np.diff(at) != 0)
        return self.select(order[first])

    def capped(self, caps: Caps) -> "Lives":
        """The newest of each category and then of each user, no more than the caps; they are in order.

        Exactly so many, where an append lets a user have a 64th more: what a load in batches
        leaves must not depend on the batches.
        """
        lives = self
        if caps.per_category and len(lives):
            order, starts = _by_category(lives)
            from_end = _from_end(starts, len(lives))
            if (from_end > caps.per_category).any():
                lives = lives.select(np.sort(order[from_end <= caps.per_category]))
        if caps.per_user and len(lives):
            from_end = _from_end(_starts(lives.user), len(lives))
            if (from_end > caps.per_user).any():
                lives = lives.select(from_end <= caps.per_user)
        return lives


@dataclass(frozen=True, slots=True)
class EncodedTrees:
    """Fields and values, user by user; a user without behaviours has none."""

    fields: list[bytes]  # categories of user 0, each after its older records, of user 1, ...
    values: list[bytes]
    ends: list[int]  # [U + 1] where each user's begin and end in them
    newest: list[bytes]  # [U] the value of field `n`
    totals: list[int]  # [U] behaviours

    def flat(self, user: int) -> list[bytes]:
        """Field, value, field, value, ... of a user."""
        begin, end = self.ends[user], self.ends[user + 1]
        out = [keys.NEWEST_FIELD] * (2 * (end - begin) + 2)
        out[0:-2:2], out[1:-2:2], out[-1] = self.fields[begin:end], self.values[begin:end], self.newest[user]
        return out

    def blobs(self, user: int) -> Blobs:
        """The same as `encode_tree` gives of a user with behaviours."""
        begin, end = self.ends[user], self.ends[user + 1]
        blobs = dict(zip(self.fields[begin:end], self.values[begin:end], strict=True))
        blobs[keys.NEWEST_FIELD] = self.newest[user]
        return blobs


def encode_trees(lives: Lives, users: int) -> EncodedTrees:
    """Fields and values of all users, from behaviours in order (`Lives.in_order`).

    Cost: about 0.15 us a behaviour and 0.4 us a value, on one core.
    """
    if not len(lives):
        return EncodedTrees([], [], [0] * (users + 1), [b""] * users, [0] * users)
    order, starts = _by_category(lives)
    grouped = lives.select(order)
    starts, older, own = _with_older(starts, len(grouped))
    values = _values(grouped, starts, older)
    names = zip(own.tolist(), grouped.category[starts].tolist(), strict=True)
    fields = [(keys.LEAF_FIELD if is_own else keys.OLDER_FIELD) % category for is_own, category in names]
    totals = np.bincount(lives.user, minlength=users)
    ends = np.concatenate([[0], np.cumsum(np.bincount(grouped.user[starts], minlength=users))])
    last = lives.select(_from_end(_starts(lives.user), len(lives)) <= NEWEST)
    starts = _starts(last.user)
    with_any = iter(_values(last, starts, np.zeros_like(starts)))
    newest = [next(with_any) if total else b"" for total in totals.tolist()]
    return EncodedTrees(fields, values, ends.tolist(), newest, totals.tolist())


def _by_category(lives: Lives) -> tuple[Places, Places]:
    """Places in order of (user, category, ts, row), and where each user's category begins among them."""
    categories, length = int(lives.category.max()) + 1, len(lives)
    key = lives.user * categories + lives.category
    if (int(lives.user[-1]) + 1) * categories * length < 2**63:
        key = np.sort(key * length + np.arange(length))  # much faster than a stable argsort
        order, key = key % length, key // length
    else:
        order = np.argsort(key, kind="stable")
        key = key[order]
    return order, _starts(key)


def _starts(key: Places) -> Places:
    """Where each run of equal keys begins."""
    return np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1])


def _from_end(starts: Places, length: int) -> Places:
    """For each place its distance from the end of its run, 1 = the last."""
    ends = np.append(starts[1:], length)
    return np.repeat(ends, ends - starts) - np.arange(length)


def _with_older(starts: Places, length: int) -> tuple[Places, Places, Mask]:
    """Runs as the values that they are kept in.

    Returns: where each value begins; how many of its run are before it; whether it is the last of its run, the category's own.
    """
    older = np.maximum(np.diff(starts, append=length) // CHUNK - 1, 0) * CHUNK
    values = 1 + (older > 0)
    own = np.zeros(values.sum(), np.bool_)
    own[np.cumsum(values) - 1] = True
    older = np.where(own, np.repeat(older, values), 0)
    return np.repeat(starts, values) + older, older, own


def _values(lives: Lives, starts: Places, older: Places) -> list[bytes]:
    """One packed value for each run of behaviours, which has so many before it in another."""
    records = pack_records(lives.row, lives.ts, lives.cross)
    ends = np.concatenate([starts[1:], [len(lives)]])
    sums = running_sums(records)
    total = sums[ends] - sums[starts] + older.astype(np.uint64) * np.uint64(OLDER_FACTOR)
    headers = np.empty((len(starts), HEADER_BYTES + OLDER_BYTES), np.uint8)
    headers[:, 0], headers[:, 1] = np.where(older, VERSION_WITH_OLDER, VERSION), lives.cross.shape[1]
    headers[:, 2:4] = ((ends - starts) % 65536).astype("<u2")[:, None].view(np.uint8)
    headers[:, 4:8] = total.astype("<u4")[:, None].view(np.uint8)  # modulo 2^32
    headers[:, 8:] = older.astype("<u4")[:, None].view(np.uint8)
    head, body, width = headers.tobytes(), records.tobytes(), records.itemsize
    at = np.arange(len(starts)) * headers.shape[1]
    behind = at + np.where(older, headers.shape[1], HEADER_BYTES)
    places = zip(*((one.tolist()) for one in (at, behind, starts * width, ends * width)), strict=True)
    return [head[at:behind] + body[begin:end] for at, behind, begin, end in places]
