"""The packed form of behaviours: a header of 8 bytes, then fixed-width records, oldest first.

    byte 0     format version (0xB1)        byte 4..7  crc32 of the records, little endian
    byte 1     J, cross features a record
    byte 2..3  count modulo 65536           then count records of 8 + J bytes:
                                            row uint32, ts uint32, J bytes (bucket, 0 = missing)

crc32 and the modular count can both be carried forward over appended bytes, so an append need not
read what is there. Decoding is one `np.frombuffer`: 10^5 records cost about a millisecond.
"""

import zlib
from functools import cache

import numpy as np

from store.types import Bytes, Rows, Seconds

VERSION = 0xB1
HEADER_BYTES = 8
MAX_ROW = 2**31 - 1


class BadRecord(ValueError):
    """A value of the tree that this codec cannot read: truncated, altered, foreign or newer."""


@cache
def record_dtype(cross_features: int) -> np.dtype[np.void]:
    """One record: row, ts and J bytes, no alignment gaps."""
    return np.dtype([("row", "<u4"), ("ts", "<u4"), ("cross", "u1", (cross_features,))])


def encode(row: Rows, ts: Seconds, cross: Bytes) -> bytes:
    """Pack behaviours that are already in order.

    Args:
        row: int32 [L]; ts: int64 [L], 0..2^32-1; cross: uint8 [L, J].
    """
    records = np.empty(len(row), record_dtype(cross.shape[1]))
    records["row"], records["ts"], records["cross"] = row, ts, cross
    body = records.tobytes()
    count = len(row) % 65536
    return bytes((VERSION, cross.shape[1])) + count.to_bytes(2, "little") + zlib.crc32(body).to_bytes(4, "little") + body


def decode(blob: bytes, cross_features: int) -> tuple[Rows, Seconds, Bytes]:
    """Unpack one value: row int32 [L], ts int64 [L], cross uint8 [L, J].

    Raises:
        BadRecord: any byte that does not fit; nothing is half-read.
    """
    if len(blob) < HEADER_BYTES:
        raise BadRecord(f"{len(blob)} bytes, a header has {HEADER_BYTES}")
    if blob[0] != VERSION:
        raise BadRecord(f"format version {blob[0]:#x}, this codec reads {VERSION:#x}")
    if blob[1] != cross_features:
        raise BadRecord(f"{blob[1]} cross features, the schema has {cross_features}")
    dtype = record_dtype(cross_features)
    body = memoryview(blob)[HEADER_BYTES:]
    count, rest = divmod(len(body), dtype.itemsize)
    if rest or count % 65536 != int.from_bytes(blob[2:4], "little"):
        raise BadRecord(f"{len(body)} bytes of records, {dtype.itemsize} each, count says {int.from_bytes(blob[2:4], 'little')}")
    if zlib.crc32(body) != int.from_bytes(blob[4:8], "little"):
        raise BadRecord("checksum differs")
    records = np.frombuffer(body, dtype)
    if count and int(records["row"].max()) > MAX_ROW:
        raise BadRecord(f"row {records['row'].max()}, the largest is {MAX_ROW}")
    return records["row"].astype(np.int32), records["ts"].astype(np.int64), records["cross"]
