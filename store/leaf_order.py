"""Records of many values as one sequence of behaviours by (ts, row): each value is in order, all of them together are not.

A time and the record's number make one whole number; those are sorted by the digits of their times, which takes the same on every
processor (numpy's sort is three times slower where AVX-512 is slow to store what it picks). A second pass writes the
behaviours, and puts those of one second in order of rows. All of it leaves the GIL.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from store.checked_values import RECORD_BYTES, Values, check_values, uint32_at
from store.codec import encode
from store.field_names import read_names
from store.types import Behaviours, Bytes, Rows, Seconds

MADE_WITH = "bc058853"  # of the files whose kernels it calls: tests/store/search/test_compiled.py

DIGIT = 11  # bits at most: 2,048 counts stay in the cache, and ten years of seconds are three digits
MOVES = 16  # a behaviour, on average: where more are of one second, sorting by rows as well costs less

Numbers = NDArray[np.uint64]


def in_one_order(values: Values, cross_features: int, category: Rows, of_last: Rows | None = None) -> Behaviours:
    """What is taken of all values, by (ts, row); of records that are equal in both, the first value's.

    Args:
        category: int32 [V], of each value's records.
        of_last: int32 in place of the last value's: of each of its records that are taken.

    Cost: 10^5 records in 1.3 ms; twice that where thousands are of one second.
    """
    length = int(values.taken.sum())
    row, own, ts = np.empty(length, np.int32), np.empty(length, np.int32), np.empty(length, np.int64)
    cross = np.empty((length, cross_features), np.uint8)
    key, place = np.empty(length, np.uint64), np.empty(length, np.uint64)
    of_last = np.zeros(0, np.int32) if of_last is None else of_last
    _number(values.data, values.first, values.taken, cross_features, category, of_last, key, place)
    if np.count_nonzero(values.taken) > 1:
        key = _by_time(key, np.empty_like(key))
    kept = _write(values.data, key, place, row, own, ts, cross)
    if kept < 0:
        kept = _write(values.data, _by_row_too(values.data, key, place), place, row, own, ts, cross)
    return Behaviours(row[:kept], own[:kept], ts[:kept], cross[:kept])


def compile_kernels() -> None:
    """Have the kernels compiled: no request can wait for that. Cost: seconds, once on a machine; then 0.1 s a process."""
    one = encode(np.ones(1, np.int32), np.ones(1, np.int64), np.ones((1, 1), np.uint8))
    category, _ = read_names([b"2", b"2.older"])
    in_one_order(check_values([one, one], np.full(1, 2, np.int32)), 1, category)


@njit(cache=True, nogil=True)
def _number(
    data: Bytes, first: Seconds, taken: Seconds, cross_features: int, category: Rows, of_last: Rows, key: Numbers, place: Numbers
) -> None:  # fmt: skip
    """Number the records that are taken: `key` is ts and number, `place` category and where in the bytes."""
    width, count, values = np.uint64(RECORD_BYTES + cross_features), 0, len(first)
    for v in range(values):
        at, own = np.uint64(first[v]), np.uint64(np.uint32(category[v])) << np.uint64(32)
        one_by_one = v == values - 1 and len(of_last) > 0
        for i in range(taken[v]):
            if one_by_one:
                own = np.uint64(np.uint32(of_last[i])) << np.uint64(32)
            key[count] = uint32_at(data, at + np.uint64(4)) << np.uint64(32) | np.uint64(count)
            place[count] = own | at
            count += 1
            at += width


@njit(cache=True, nogil=True)
def _by_time(key: Numbers, other: Numbers) -> Any:
    """Keys in the order of their upper halves, equal ones as they were: in `key` or in `other`, which is as long."""
    half, one = np.uint64(32), np.uint64(1)
    low = high = key[0] >> half
    for i in range(len(key)):
        low, high = min(low, key[i] >> half), max(high, key[i] >> half)
    bits = 0
    while (high - low) >> np.uint64(bits):
        bits += 1
    digits = (bits + DIGIT - 1) // DIGIT
    width = (bits + digits - 1) // max(digits, 1)
    mask, earliest = (one << np.uint64(width)) - one, low << half
    begin = np.zeros((digits, 1 << width), np.uint32)
    for i in range(len(key)):
        for digit in range(digits):
            begin[digit, (key[i] - earliest) >> np.uint64(32 + digit * width) & mask] += np.uint32(1)
    for digit in range(digits):  # the lowest first
        at = np.uint32(0)
        for value in range(1 << width):
            begin[digit, value], at = at, at + begin[digit, value]
        for i in range(len(key)):
            value = (key[i] - earliest) >> np.uint64(32 + digit * width) & mask
            other[begin[digit, value]] = key[i]
            begin[digit, value] += np.uint32(1)
        key, other = other, key
    return key


@njit(cache=True, nogil=True)
def _write(data: Bytes, key: Numbers, place: Numbers, row: Rows, own: Rows, ts: Seconds, cross: Bytes) -> int:
    """Write behaviours in the order of their keys, those of one second in that of rows, each once; how many there are.

    -1: too many are of one second, and nothing that was written counts. Leaves `key` as it is.
    """
    low, moves, count = np.uint64(0xFFFFFFFF), MOVES * len(key), 0
    begin, last = 0, np.int64(-1)  # of the behaviours of one second
    for i in range(len(key)):
        there = place[key[i] & low]
        from_byte = there & low
        second, item = np.int64(key[i] >> np.uint64(32)), np.int32(uint32_at(data, from_byte))
        at = count
        if second != last:
            begin, last = count, second
        else:
            while at > begin and row[at - 1] > item:
                at -= 1
            if at > begin and row[at - 1] == item:
                continue
            moves -= count - at
            if moves < 0:
                return -1
            for j in range(count, at, -1):
                row[j], own[j] = row[j - 1], own[j - 1]
                cross[j] = cross[j - 1]
        row[at], own[at], ts[count] = item, np.int32(there >> np.uint64(32)), second
        for j in range(cross.shape[1]):
            cross[at, j] = data[from_byte + np.uint64(RECORD_BYTES + j)]
        count += 1
    return count


def _by_row_too(data: Bytes, key: Numbers, place: Numbers) -> Numbers:
    """Sorted keys in order of rows where their times are equal; with equal rows too, as they were."""
    at = (place[key & np.uint64(0xFFFFFFFF)] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    row = sum(data[at + byte].astype(np.int64) << 8 * byte for byte in range(4))
    return key[np.lexsort((row, key >> np.uint64(32)))]
