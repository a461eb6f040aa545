"""The names of a tree's fields, all of a user's at once: `12` is category 12's own field, `12.3` its part 3 (`store/keys.py`)."""

from collections.abc import Collection

import numpy as np
from numba import njit

from store.types import Bytes, Mask, Rows, Seconds

DOT, ZERO, MAX_DIGITS = ord("."), ord("0"), 10


def read_names(names: Collection[bytes]) -> tuple[Rows, Mask]:
    """The category row that each name is of, int32 [V], -1 = it is no such name; and whether it is that of a part, bool [V].

    Numbers are below 2^31, in the one form that they are written in. Cost: 0.06 us a name.
    """
    count = len(names)
    end = np.cumsum(np.fromiter(map(len, names), np.int64, count))
    category, part = np.empty(count, np.int32), np.empty(count, np.bool_)
    _read(np.frombuffer(b"".join(names), np.uint8), end, category, part)
    return category, part


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
def _read(text: Bytes, end: Seconds, category: Rows, part: Mask) -> None:
    """Fill `category` and `part`."""
    start = 0
    for v in range(len(end)):
        dot = start
        while dot < end[v] and text[dot] != DOT:
            dot += 1
        part[v] = dot < end[v]
        category[v] = _number(text, start, dot)
        if part[v] and _number(text, dot + 1, end[v]) < 0:
            category[v] = -1
        start = end[v]
