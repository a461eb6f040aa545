"""Item tables as values of the store: rows in blocks of at most 16 KiB, each with a digest of its own.

    byte 0      format version (0x71)        byte 4..7    bytes of a row, uint32
    byte 1..3   dtype as numpy writes it     byte 8..15   digest, uint64
    then the rows, one after another; everything little endian

The digest is of the table's name, the block's number, dtype, shape of a row and the rows: a block that was cut,
altered, or stands in another's place does not have the digest that its key names. Files that belong to a
version (registry, golden request) are tables of bytes with one block.
"""

import hashlib
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

FORMAT = 0x71
HEADER_BYTES = 16
BLOCK_BYTES = 16_384  # at most, of rows
_HEADER = struct.Struct("<B3sIQ")


class BadBlock(ValueError):
    """A value that is not the block it should be: truncated, altered, foreign or newer."""


class TableForm(BaseModel):
    """What a table's bytes mean, and how its rows are dealt into blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_.]+$")
    dtype: str = Field(pattern=r"^[<|][fiu][1248]$")
    row: tuple[int, ...]  # shape of one row; () = a number
    rows: int = Field(ge=0)
    block_rows: int = Field(ge=1)

    @staticmethod
    def of(name: str, table: NDArray[Any]) -> "TableForm":
        """The form of a table [N, ...].

        Raises:
            ValueError: a row is empty or longer than a block, or its dtype is no plain number.
        """
        row_bytes = table.dtype.itemsize * int(np.prod(table.shape[1:], dtype=np.int64))
        if not 0 < row_bytes <= BLOCK_BYTES:
            raise ValueError(f"{name}: rows of {row_bytes} bytes, a block has {BLOCK_BYTES}")
        dtype = table.dtype.newbyteorder("<").str
        return TableForm(name=name, dtype=dtype, row=table.shape[1:], rows=len(table), block_rows=BLOCK_BYTES // row_bytes)

    @staticmethod
    def of_file(name: str, size: int) -> "TableForm":
        """The form of a file's bytes: one block of them."""
        return TableForm(name=name, dtype="|u1", row=(), rows=size, block_rows=max(size, 1))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return np.dtype(self.dtype).itemsize * int(np.prod(self.row, dtype=np.int64))

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-self.rows // self.block_rows)

    def rows_of(self, block: int) -> int:
        """Rows of one block; the last one may have fewer than the others."""
        return min(self.rows - block * self.block_rows, self.block_rows)


def payload_of(form: TableForm, table: NDArray[Any], block: int) -> bytes:
    """The bytes of one block's rows."""
    first = block * form.block_rows
    return np.ascontiguousarray(table[first : first + form.block_rows], form.dtype).tobytes()


def digest_of(form: TableForm, block: int, payload: bytes) -> int:
    """64 bits that tell a block from every other one of its place. Cost: about a microsecond per KiB."""
    digest = hashlib.blake2b(f"{form.name}:{block}:{form.dtype}:{form.row}".encode(), digest_size=8)
    digest.update(payload)
    return int.from_bytes(digest.digest(), "little")


def encode_block(form: TableForm, digest: int, payload: bytes) -> bytes:
    """The value of one block."""
    return _HEADER.pack(FORMAT, form.dtype.encode(), form.row_bytes, digest) + payload


def decode_block(form: TableForm, block: int, digest: int, value: bytes | None) -> NDArray[Any]:
    """The rows of one block [rows_of(block), *row], read-only, without a copy.

    Raises:
        BadBlock: it is missing, or any of its bytes does not fit.
    """
    if value is None:
        raise BadBlock(f"{form.name}: block {block} is missing")
    if len(value) != HEADER_BYTES + form.rows_of(block) * form.row_bytes:
        raise BadBlock(f"{form.name}: block {block} has {len(value)} bytes, not {form.rows_of(block)} rows of {form.row_bytes}")
    found_format, dtype, row_bytes, stated = _HEADER.unpack_from(value)
    if (found_format, dtype, row_bytes) != (FORMAT, form.dtype.encode(), form.row_bytes):
        raise BadBlock(f"{form.name}: block {block} is of format {found_format:#x}, {dtype!r} and {row_bytes} bytes a row")
    payload = value[HEADER_BYTES:]
    if not stated == digest == digest_of(form, block, payload):
        raise BadBlock(f"{form.name}: block {block} is not the one of digest {digest:016x}")
    rows: NDArray[Any] = np.frombuffer(payload, form.dtype).reshape(-1, *form.row)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise BadBlock(f"{form.name}: block {block} holds NaN or infinity")
    return rows
