"""The packed form of behaviours: a header of 8 bytes, then fixed-width records, oldest first.

    byte 0     format version (0xB2)        byte 4..7  sum of the records, little endian
    byte 1     J, cross features a record
    byte 2..3  count modulo 65536           then count records of 8 + J bytes:
                                            row uint32, ts uint32, J bytes (bucket, 0 = missing)

    sum = (row * 1999993 + ts * 1299709 + sum over j of bucket_j * (1000003 + 2 j)) over all records, modulo 2^32

A category of 256 behaviours or more is kept as two values: its newest 128 to 255, and in a field beside them the others, a
multiple of 128 (`CHUNK`). The value of the newest says how many those are: its version is 0xB3, a header of 12 bytes ends
with that number (`older`, uint32, not 0), and the sum has older * 1600033 more. So how
a category is kept follows from its behaviours alone.

Count and sum are carried forward where a record is put in or taken out, wherever it stands: the
server-side script (`store/append.lua`) reads no other record for them. The factors are odd, so that no
single changed byte leaves the sum as it was, and small enough for the script's numbers, which are
doubles. A sum says nothing of the order: that is checked on its own (`checked_values.py`).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from store.checked_values import (
    ANY_BUCKET,
    CROSS_FACTOR,
    FAULTS,
    HEADER_BYTES,
    OLDER_BYTES,
    OLDER_FACTOR,
    ROW_FACTOR,
    TS_FACTOR,
    VERSION,
    VERSION_WITH_OLDER,
    check_values,
)
from store.types import Bytes, Rows, Seconds


class BadRecord(ValueError):
    """A value of the tree that this codec cannot read: truncated, altered, foreign or newer."""


@cache
def record_dtype(cross_features: int) -> np.dtype[np.void]:
    """One record: row, ts and J bytes, no alignment gaps."""
    return np.dtype([("row", "<u4"), ("ts", "<u4"), ("cross", "u1", (cross_features,))])


def encode(row: Rows, ts: Seconds, cross: Bytes, older: int = 0) -> bytes:
    """Pack behaviours that are already in order.

    Args:
        row: int32 [L]; ts: int64 [L], 0..2^32-1; cross: uint8 [L, J]. In order of (ts, row), each pair once.
        older: how many stand before them, in a value of their own; 0 = none.
    """
    records = pack_records(row, ts, cross)
    count, total = len(row) % 65536, (sum_of(records) + older * OLDER_FACTOR) % 2**32
    version, before = (VERSION_WITH_OLDER, older.to_bytes(OLDER_BYTES, "little")) if older else (VERSION, b"")
    header = bytes((version, cross.shape[1])) + count.to_bytes(2, "little") + total.to_bytes(4, "little") + before
    return header + records.tobytes()


def pack_records(row: Rows, ts: Seconds, cross: Bytes) -> NDArray[np.void]:
    """The records of behaviours, without headers: record_dtype [L]."""
    records = np.empty(len(row), record_dtype(cross.shape[1]))
    records["row"], records["ts"], records["cross"] = row, ts, cross
    return records


def decode(blob: bytes, cross_features: int) -> tuple[Rows, Seconds, Bytes]:
    """Unpack one value: row int32 [L], ts int64 [L], cross uint8 [L, J]; not what another value has before it.

    Raises:
        BadRecord: any byte that does not fit; nothing is half-read.
    """
    checked = check_values([blob], np.full(cross_features, ANY_BUCKET, np.int32))
    if not checked.readable:
        raise BadRecord(_text(FAULTS[checked.fault[0]], blob, cross_features))
    records = np.frombuffer(blob, record_dtype(cross_features), offset=int(checked.first[0]))
    return records["row"].astype(np.int32), records["ts"].astype(np.int64), records["cross"]


def _text(fault: str, blob: bytes, cross_features: int) -> str:
    """What is wrong with a value, with its own numbers."""
    has = {"bytes": len(blob), "version": blob[0] if blob else 0, "features": blob[1] if len(blob) > 1 else 0}
    has["header"] = HEADER_BYTES + (OLDER_BYTES if has["version"] == VERSION_WITH_OLDER else 0)
    has["older"] = int.from_bytes(blob[HEADER_BYTES : has["header"]], "little")
    return fault.format(**has, count=int.from_bytes(blob[2:4], "little"), schema=cross_features)


def sum_of(records: NDArray[np.void]) -> int:
    """The header's sum of these records."""
    return int(_parts(records).sum(dtype=np.uint64)) % 2**32


def running_sums(records: NDArray[np.void]) -> NDArray[np.uint64]:
    """The sum of the first 0, 1, ... L records: uint64 [L + 1]. Modulo 2^32, a difference of two is a header's sum."""
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(_parts(records), dtype=np.uint64)])


def _parts(records: NDArray[np.void]) -> NDArray[np.uint64]:
    """What each record adds to the sum, modulo 2^32: uint64 [L], so that sums of 2^32 records do not wrap."""
    part: NDArray[np.uint64] = records["row"].astype(np.uint64) * np.uint64(ROW_FACTOR)
    part += records["ts"].astype(np.uint64) * np.uint64(TS_FACTOR)
    for j in range(records["cross"].shape[1]):
        part += records["cross"][:, j].astype(np.uint64) * np.uint64(CROSS_FACTOR + 2 * j)
    return part & np.uint64(2**32 - 1)
