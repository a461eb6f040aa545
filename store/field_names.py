"""The names of a tree's fields, all of a user's at once: `12` is category 12's own field, `12.older` that beside it."""

from collections.abc import Collection

import numpy as np
from numba import njit

from store import keys
from store.types import Bytes, Mask, Rows, Seconds

ZERO, MAX_DIGITS = ord("0"), 10
OLDER = np.frombuffer(keys.OLDER_FIELD.removeprefix(keys.LEAF_FIELD), np.uint8)


def read_names(names: Collection[bytes]) -> tuple[Rows, Mask]:
    """The category row that each name is of, int32 [V], -1 = it is no such name; and whether it is that of the field beside the
    category's own, bool [V].

    Numbers are below 2^31, in the one form that they are written in. Cost: 0.06 us a name.
    """
    count = len(names)
    end = np.cumsum(np.fromiter(map(len, names), np.int64, count))
    category, older = np.empty(count, np.int32), np.empty(count, np.bool_)
    _read(np.frombuffer(b"".join(names), np.uint8), end, OLDER, category, older)
    return category, older


@njit(cache=True, nogil=True)
def _number(text: Bytes, start: int, end: int) -> int:
    """The decimal number that stands there, -1 = none does."""
    if start == end or end - start > MAX_DIGITS or (text[start] == ZERO and end - start > 1):
        return -1
    number = 0
    for i in range(start, end):
        if text[i] < ZERO or text[i] > ZERO + 9:
            return -1
        number = 10 * number + (text[i] - ZERO)
    return number if number < 2**31 else -1


@njit(cache=True, nogil=True)
def _read(text: Bytes, end: Seconds, ending: Bytes, category: Rows, older: Mask) -> None:
    """Fill `category`, and `older` where a name has that ending."""
    start = 0
    for v in range(len(end)):
        last = end[v] - len(ending)
        older[v] = last > start
        for i in range(len(ending)):
            older[v] = older[v] and text[last + i] == ending[i]
        category[v] = _number(text, start, last if older[v] else end[v])
        start = end[v]
