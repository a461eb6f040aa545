"""Rows of item ids: a table of hashes beside the ids' bytes, so that a look-up of hundreds is few waits for memory.

A dictionary of texts makes three in a row for each of them, and takes some 150 bytes an item; this takes 12 to 20 and the id.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.types import FIRST_KNOWN, UNKNOWN, Rows

Bytes = NDArray[np.uint8]
Slots = NDArray[np.uint64]

END = np.uint8(0)  # no id holds a NUL
OFFSET, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a
MIX = np.uint64(0xFF51AFD7ED558CCD)
EMPTY = np.uint64(0)
ROW = np.uint64(0xFFFFFFFF)  # the half of a slot that holds the row; the other holds half of the hash


@njit(cache=True, nogil=True)
def hash_of(text: Bytes, start: int, end: int) -> np.uint64:
    """64 bits of the bytes from `start` to `end`."""
    value = OFFSET
    for i in range(start, end):
        value = (value ^ np.uint64(text[i])) * PRIME
    value = (value ^ (value >> np.uint64(33))) * MIX
    return value ^ (value >> np.uint64(33))


@njit(cache=True, nogil=True)
def end_of(text: Bytes, start: int) -> int:
    """Where the id ends that starts there."""
    while text[start] != END:
        start += 1
    return start


@njit(cache=True, nogil=True)
def fill(text: Bytes, starts: NDArray[np.int64], slots: Slots) -> None:
    """Put the ids into empty slots, two to the power of n; the i-th has row i + FIRST_KNOWN."""
    last = np.uint64(len(slots) - 1)
    for i in range(len(starts)):
        value = hash_of(text, starts[i], end_of(text, starts[i]))
        at = value & last
        while slots[at] != EMPTY:
            at = (at + np.uint64(1)) & last
        slots[at] = (value & ~ROW) | np.uint64(i + FIRST_KNOWN)


@njit(cache=True, nogil=True)
def is_same(asked: Bytes, start: int, text: Bytes, own: int) -> bool:
    """Whether two ids are the same bytes; `own`: where the one in `text` starts."""
    while asked[start] == text[own] and asked[start] != END:
        start, own = start + 1, own + 1
    return bool(asked[start] == text[own])


@njit(cache=True, nogil=True)
def look_up(asked: Bytes, text: Bytes, starts: NDArray[np.int64], slots: Slots, row: Rows) -> None:
    """The rows of the ids in `asked`, one behind another, written; UNKNOWN where there is none.

    Step by step for all of them, so that the processor waits for many places of the memory at a time.
    """
    count, last, mask = len(row), np.uint64(len(slots) - 1), ~ROW
    begin, value, slot = np.empty(count, np.int64), np.empty(count, np.uint64), np.empty(count, np.uint64)
    own = np.zeros(count, np.int64)
    start = 0
    for n in range(count):
        end = end_of(asked, start)
        begin[n], value[n] = start, hash_of(asked, start, end)
        start = end + 1
    for n in range(count):
        slot[n] = slots[value[n] & last]
    for n in range(count):
        if slot[n] != EMPTY:
            own[n] = starts[np.int64(slot[n] & ROW) - FIRST_KNOWN]
    for n in range(count):
        at, row[n] = value[n] & last, UNKNOWN
        while slot[n] != EMPTY:
            if (slot[n] ^ value[n]) & mask == 0 and is_same(asked, begin[n], text, own[n]):
                row[n] = np.int64(slot[n] & ROW)
                break
            at = (at + np.uint64(1)) & last
            slot[n] = slots[at]
            if slot[n] != EMPTY:
                own[n] = starts[np.int64(slot[n] & ROW) - FIRST_KNOWN]


class IdIndex(NamedTuple):
    """Ids by row, to be looked up."""

    text: Bytes  # the ids, a NUL behind each
    starts: NDArray[np.int64]  # [n]
    slots: Slots  # a power of two, at least 2 n

    @staticmethod
    def of(ids: list[str]) -> "IdIndex":
        """Of different ids without NUL; the i-th has row i + FIRST_KNOWN. Cost: 0.3 us an id."""
        text = _joined(ids)
        ends = np.flatnonzero(text == END)[: len(ids)]
        starts = np.concatenate([np.zeros(min(len(ids), 1), np.int64), ends[:-1] + 1])
        slots = np.zeros(1 << (2 * len(ids)).bit_length(), np.uint64)
        fill(text, starts, slots)
        return IdIndex(text, starts, slots)

    def rows(self, ids: list[str]) -> Rows:
        """Rows int32 [n] of ids without NUL; unknown ones have row 1. Cost: 0.1 us each."""
        row = np.empty(len(ids), np.int32)
        look_up(_joined(ids), self.text, self.starts, self.slots, row)
        return row


def _joined(ids: list[str]) -> Bytes:
    return np.frombuffer(("\0".join(ids) + "\0").encode("utf-8", "surrogatepass"), np.uint8)
