"""Behaviours of the same item side by side: what depends on the item alone is then worked out once for all of them.

A life repeats its items: 100,000 behaviours of groceries, or of the benchmarks' world, have 23,000 different ones.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from store.search.lanes import LANES
from store.search.workspace import Workspace, read_only
from store.types import Rows

MADE_WITH = "626d9a05"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

PAYS = 0.9  # more than this share of different rows: each behaviour stays by itself
SPREAD = 0x9E3779B1  # 2^32 / golden ratio: neighbouring rows come apart

WORKSPACE = Workspace()


class Distinct(NamedTuple):
    """The different rows of a life, and where each stands in it."""

    row: Rows  # [D] each once, in the order of their first behaviours
    start: Rows  # [D + 1] the behaviours of row d are member[start[d] : start[d + 1]]
    member: Rows  # [L + 16] places in the life, ascending for each row; sixteen more


def distinct(row: Rows) -> Distinct:
    """Group behaviours by item row, int32 [L]; each is by itself, in time order, where nearly all rows differ.

    In this thread's memory, until it asks again. Cost: O(L), about 1 ms for 10^5.
    """
    length = len(row)
    bits = max(int(2 * length - 1).bit_length(), 1)
    seat, group, kept, start, member = WORKSPACE.arrays(
        ("i4", (1 << bits,)), ("i4", (length,)), ("i4", (length,)), ("i4", (length + 1,)), ("i4", (length + LANES,))
    )
    count = group_by_row(read_only(row), bits, seat, group, kept, start, member)
    if count > PAYS * length:
        start[:], member[:length] = np.arange(length + 1), np.arange(length)
        return Distinct(row, start, member)
    return Distinct(kept[:count], start[: count + 1], member)


@njit(cache=True, nogil=True, _nrt=False)
def group_by_row(row: Rows, bits: int, seat: Rows, group: Rows, kept: Rows, start: Rows, member: Rows) -> int:
    """`distinct`, with arrays to write to: a table of 2^bits seats, open addressing, at most half of them taken."""
    seat[:] = -1
    count, last = 0, len(seat) - 1
    for i in range(len(row)):
        at = np.int64(np.uint32(np.uint32(row[i]) * np.uint32(SPREAD)) >> np.uint32(32 - bits))
        while seat[at] >= 0 and kept[seat[at]] != row[i]:
            at = (at + 1) & last
        if seat[at] < 0:
            seat[at] = count
            kept[count] = row[i]
            start[count] = 0
            count += 1
        group[i] = seat[at]
        start[seat[at]] += 1
    end = 0
    for d in range(count):
        end += start[d]
        start[d] = end
    start[count] = end
    for i in range(len(row) - 1, -1, -1):
        start[group[i]] -= 1
        member[start[group[i]]] = i
    return count
