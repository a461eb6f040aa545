"""Behaviours of the same item side by side: what depends on the item alone is then worked out once for all of them.

A life repeats its items: 100,000 behaviours of groceries, or of the benchmarks' world, have 23,000 different ones.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from store.search.lanes import LANES
from store.search.workspace import Workspace, read_only
from store.types import Rows

MADE_WITH = "de69e0ab"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

TRIED = 4096  # behaviours of a long life that show whether it repeats items
REPEATS = 0.98  # of them, no more different rows than this share
SPREAD = 0x9E3779B1  # 2^32 / golden ratio: neighbouring rows come apart

WORKSPACE = Workspace()


class Distinct(NamedTuple):
    """The different rows of a life, and where each stands in it."""

    row: Rows  # [D] each once, in the order of their first behaviours
    start: Rows  # [D + 1] the behaviours of row d are member[start[d] : start[d + 1]]
    member: Rows  # [L + 16] places in the life, ascending for each row; sixteen more


def distinct(row: Rows, pays: float = 0.9) -> Distinct:
    """Group behaviours by item row, int32 [L]; each by itself, in time order, where a larger share than `pays` differ.

    In this thread's memory, until it asks again. Cost: O(L), about 1 ms for 10^5.
    """
    length = len(row)
    bits = max(int(2 * length - 1).bit_length(), 1)
    seat, group, kept, start, member = WORKSPACE.arrays(
        ("i4", (1 << bits,)), ("i4", (length,)), ("i4", (length,)), ("i4", (length + 1,)), ("i4", (length + LANES,))
    )
    tried, count = row[:: max(length // TRIED, 1)], length
    if length < 4 * TRIED or group_by_row(read_only(tried), bits, seat, group, kept, start, member) < REPEATS * len(tried):
        count = group_by_row(read_only(row), bits, seat, group, kept, start, member)
    if count > pays * length:
        start[:] = np.arange(length + 1, dtype=np.int32)
        member[:length] = start[:-1]
        kept[:] = row  # not the caller's array: kernels are compiled for each kind they meet
        return Distinct(kept, start, member)
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
