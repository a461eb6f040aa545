"""A snapshot: what stands for a user's oldest behaviours in a request, made before it.

A state that they were folded into (sdim's bucket sums, mimn's memory), or clusters of them and the newest
ones one by one (twin_v2). Behaviours after the snapshot are its tail: they are folded, or searched one by
one, when the request comes. No snapshot is the empty one: everything is tail.

At rest a snapshot is a header of 52 bytes and its arrays, one after another, little endian:

    byte 0      format version (0x52)         byte 24..31  clusters: made of behaviours before this time, uint64
    byte 4..7   crc32 of all that follows     byte 32..35  behaviours it stands for, uint32
    byte 8..15  snapshot_id: what made it     byte 36..39  row of the newest of them, uint32
    byte 16..23 the tree's arrivals clock     byte 40..47  its ts, uint64
                when it was made, uint64      byte 48..51  item rows known then, if some were beyond them, uint32
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.types import Behaviours, Rows

VERSION = 0x52
_HEADER = struct.Struct("<B3xI8sQQIIQI")
_CHECKED_FROM = 8  # the crc covers what stands behind it


class BadSnapshot(ValueError):
    """A stored value that is no snapshot of this model: truncated, altered or foreign."""


@dataclass(frozen=True)
class Snapshot:
    """Stands for the `folded` oldest behaviours of a user, the newest of which is (ts, row).

    `covers`: how many of the behaviours at hand are among those, where only the newest of a life were read.
    """

    folded: int
    row: int
    ts: int
    covers: int
    clusters: Behaviours | None = None  # with `size`; None where a state holds them
    state: dict[str, NDArray[Any]] = field(default_factory=dict)  # by name, [1, ...]; empty where clusters do
    refreshed: int = 0  # what was clustered are behaviours before this time
    arrived: int = 0  # the tree's arrivals clock when it was made, 0 = not made from a tree
    known_rows: int = 0  # item rows that its maker knew, where it took some behaviours for those of the unknown item; 0 = none

    @staticmethod
    def of(behaviours: Behaviours, **content: Any) -> "Snapshot":
        """A snapshot of these behaviours; of none, everything is newer than it."""
        row, ts = (int(behaviours.row[-1]), int(behaviours.ts[-1])) if len(behaviours) else (0, -1)
        return Snapshot(len(behaviours), row, ts, len(behaviours), **content)

    def first_newer(self, behaviours: Behaviours) -> int:
        """Index of the first of `behaviours`, rows as the store has them, that it does not stand for."""
        start, end = np.searchsorted(behaviours.ts, [self.ts, self.ts + 1])
        return int(start + np.searchsorted(behaviours.row[start:end], self.row, side="right"))

    def agrees(self, behaviours: Behaviours, arrived: int) -> bool:
        """Whether what came into the tree since it was made is its tail, the end of `behaviours`, and nothing else.

        `arrived`: the tree's clock now. A late behaviour moves the clock and is not in the tail.
        """
        return arrived - self.arrived == len(behaviours) - self.first_newer(behaviours)

    def and_newer(self, behaviours: Behaviours) -> Behaviours:
        """The clusters, then the behaviours that came after it, as clusters of one."""
        tail = behaviours.select(slice(self.covers, None))
        ones = np.ones(len(tail), np.int32)
        made = self.clusters
        if made is None or made.size is None:
            return Behaviours(tail.row, tail.category, tail.ts, tail.cross, ones)
        return Behaviours(
            np.concatenate([made.row, tail.row]),
            np.concatenate([made.category, tail.category]),
            np.concatenate([made.ts, tail.ts]),
            np.concatenate([made.cross, tail.cross]),
            np.concatenate([made.size, ones]),
        )

    def grown(self, behaviours: Behaviours, arrived: int = 0, known_rows: int = 0, **content: Any) -> "Snapshot":
        """One of `content` that stands for the tail of `behaviours` too.

        Args:
            arrived: what the tree's clock showed when it held just these.
            known_rows: as the field has it, of the tail.
        """
        newest = Snapshot.of(behaviours)
        folded = self.folded + len(behaviours) - self.covers
        known_rows = self.known_rows or known_rows
        return replace(newest, folded=folded, refreshed=self.refreshed, arrived=arrived, known_rows=known_rows, **content)


class SnapshotCodec:
    """Reads and writes the snapshots of one bundle."""

    def __init__(self, snapshot_id: str, state: Mapping[str, NDArray[Any]], cross_features: int) -> None:
        """
        Args:
            snapshot_id: 16 hex digits, those of the parameters that the snapshots are made with.
            state: the empty state, whose shapes and dtypes all states have; empty = snapshots are clusters.
            cross_features: J, of a cluster.
        """
        self.snapshot_id = snapshot_id
        self._state = dict(state)
        self._cluster = np.dtype([("row", "<u4"), ("size", "<u4"), ("ts", "<u8"), ("cross", "u1", (cross_features,))])

    def encode(self, snapshot: Snapshot) -> bytes:
        """Pack a snapshot of at least one behaviour."""
        if snapshot.clusters is None:
            body = b"".join(np.ascontiguousarray(snapshot.state[name]).tobytes() for name in self._state)
        else:
            made = np.empty(len(snapshot.clusters), self._cluster)
            made["row"], made["size"], made["ts"] = snapshot.clusters.row, snapshot.clusters.size, snapshot.clusters.ts
            made["cross"] = snapshot.clusters.cross
            body = made.tobytes()
        stated = (
            bytes.fromhex(self.snapshot_id), snapshot.arrived, snapshot.refreshed, snapshot.folded, snapshot.row, snapshot.ts,
            snapshot.known_rows,
        )  # fmt: skip
        checked = _HEADER.pack(VERSION, 0, *stated)[_CHECKED_FROM:] + body
        return _HEADER.pack(VERSION, zlib.crc32(checked), *stated) + body

    def decode(self, blob: bytes, category: Callable[[Rows], Rows]) -> Snapshot:
        """The snapshot; whether it still stands for a tree is `Snapshot.agrees`.

        Args:
            category: category rows of item rows.

        Raises:
            BadSnapshot: a byte that does not fit, or made with other parameters.
        """
        header = read_header(blob)
        if (made_by := blob[8:16].hex()) != self.snapshot_id:
            raise BadSnapshot(f"made with parameters {made_by}, {self.snapshot_id} are needed")
        body = memoryview(blob)[_HEADER.size :]
        if self._state:
            return replace(header, state=self._read_state(body))
        return replace(header, clusters=self._read_clusters(header.folded, body, category))

    def _read_state(self, body: memoryview) -> dict[str, NDArray[Any]]:
        needed = sum(array.nbytes for array in self._state.values())
        if len(body) != needed:
            raise BadSnapshot(f"{len(body)} bytes of state, the model's has {needed}")
        state, at = {}, 0
        for name, like in self._state.items():
            state[name] = np.frombuffer(body, like.dtype, like.size, at).reshape(like.shape)
            at += like.nbytes
            if not np.isfinite(state[name]).all():
                raise BadSnapshot(f"{name} holds NaN or infinity")
        return state

    def _read_clusters(self, folded: int, body: memoryview, category: Callable[[Rows], Rows]) -> Behaviours:
        count, rest = divmod(len(body), self._cluster.itemsize)
        if rest or not count:
            raise BadSnapshot(f"{len(body)} bytes of clusters, {self._cluster.itemsize} each")
        made = np.frombuffer(body, self._cluster)
        row, size = made["row"].astype(np.int32), made["size"].astype(np.int32)
        if int(size.sum()) != folded:
            raise BadSnapshot(f"clusters of {size.sum()} behaviours, {folded} were folded")
        return Behaviours(row, category(row), made["ts"].astype(np.int64), made["cross"], size)


def read_header(blob: bytes) -> Snapshot:
    """What a packed snapshot says of itself, without what it holds.

    Raises:
        BadSnapshot: not a packed snapshot, or altered.
    """
    if len(blob) < _HEADER.size or blob[0] != VERSION:
        raise BadSnapshot(f"{len(blob)} bytes, first {blob[:1].hex()}: a snapshot starts with {VERSION:#x}, {_HEADER.size} bytes")
    _, checksum, _, arrived, refreshed, folded, row, ts, known_rows = _HEADER.unpack_from(blob)
    if checksum != zlib.crc32(memoryview(blob)[_CHECKED_FROM:]):
        raise BadSnapshot("checksum differs")
    return Snapshot(folded, row, ts, folded, refreshed=refreshed, arrived=arrived, known_rows=known_rows)


def stamped(blob: bytes, arrived: int) -> bytes:
    """The same snapshot with the tree's arrivals clock of when it was made."""
    checked = blob[_CHECKED_FROM:16] + arrived.to_bytes(8, "little") + blob[24:]
    return blob[:4] + zlib.crc32(checked).to_bytes(4, "little") + checked
