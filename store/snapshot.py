"""A snapshot: what was made offline of a user's oldest behaviours, and stands for them in a request.

A state that they were folded into (sdim's bucket sums, mimn's memory), or clusters of them (twin_v2).
Behaviours newer than the snapshot are its tail: they are folded, or searched one by one, when the
request comes. No snapshot is the empty one: everything is tail.

At rest a snapshot is a header of 32 bytes and its arrays, one after another, little endian:

    byte 0      format version (0x51)         byte 8..15   snapshot_id: what made it, 8 bytes
    byte 4..7   crc32 of all that follows     byte 16..19  behaviours folded, uint32
                                              byte 20..23  row of the newest of them, uint32
                                              byte 24..31  its ts, uint64
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.types import Behaviours, Rows

VERSION = 0x51
_HEADER = struct.Struct("<B3xI8sIIQ")
_CHECKED_FROM = 8  # the crc covers what stands behind it


class BadSnapshot(ValueError):
    """A stored value that is no snapshot of this model: truncated, altered or foreign."""


@dataclass(frozen=True)
class Snapshot:
    """Stands for the `folded` oldest behaviours of a user."""

    folded: int
    clusters: Behaviours | None = None  # with `size`; None where a state holds them
    state: dict[str, NDArray[Any]] = field(default_factory=dict)  # by name, [1, ...]; empty where clusters do

    def and_newer(self, behaviours: Behaviours) -> Behaviours:
        """The clusters, then the behaviours that came after the folded ones, as clusters of one."""
        tail = behaviours.select(slice(self.folded, None))
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


class SnapshotCodec:
    """Reads and writes the snapshots of one bundle."""

    def __init__(self, snapshot_id: str, state: Mapping[str, NDArray[Any]], cross_features: int) -> None:
        """
        Args:
            snapshot_id: 16 hex digits, those of the parameters that the snapshots are made with.
            state: the empty state, whose shapes and dtypes all states have; empty = snapshots are clusters.
            cross_features: J, of a cluster.
        """
        self._id = bytes.fromhex(snapshot_id)
        self._state = dict(state)
        self._cluster = np.dtype([("row", "<u4"), ("size", "<u4"), ("ts", "<u8"), ("cross", "u1", (cross_features,))])

    def encode(self, snapshot: Snapshot, behaviours: Behaviours) -> bytes:
        """Pack a snapshot of `behaviours`, the user's oldest; at least one of them."""
        if snapshot.clusters is None:
            body = b"".join(np.ascontiguousarray(snapshot.state[name]).tobytes() for name in self._state)
        else:
            made = np.empty(len(snapshot.clusters), self._cluster)
            made["row"], made["size"], made["ts"] = snapshot.clusters.row, snapshot.clusters.size, snapshot.clusters.ts
            made["cross"] = snapshot.clusters.cross
            body = made.tobytes()
        row, ts = int(behaviours.row[snapshot.folded - 1]), int(behaviours.ts[snapshot.folded - 1])
        packed = _HEADER.pack(VERSION, 0, self._id, snapshot.folded, row, ts) + body
        return _HEADER.pack(VERSION, zlib.crc32(packed[_CHECKED_FROM:]), self._id, snapshot.folded, row, ts) + body

    def decode(self, blob: bytes, behaviours: Behaviours, category: Callable[[Rows], Rows]) -> Snapshot | None:
        """The snapshot, if it stands for the oldest of `behaviours`; None if it does not.

        It does not when it was made with other parameters, when a late behaviour was sorted in before its
        newest, or when the request is of a time before it: then everything has to be folded again.

        Args:
            behaviours: of the user, in order, rows as the store has them.
            category: category rows of item rows.

        Raises:
            BadSnapshot: a byte that does not fit.
        """
        if len(blob) < _HEADER.size or blob[0] != VERSION:
            raise BadSnapshot(
                f"{len(blob)} bytes, first {blob[:1].hex()}: a snapshot starts with {VERSION:#x}, {_HEADER.size} bytes"
            )
        _, checksum, made_by, folded, row, ts = _HEADER.unpack_from(blob)
        if checksum != zlib.crc32(memoryview(blob)[_CHECKED_FROM:]):
            raise BadSnapshot("checksum differs")
        if made_by != self._id:
            return None
        if not 0 < folded <= len(behaviours) or (behaviours.row[folded - 1], behaviours.ts[folded - 1]) != (row, ts):
            return None
        body = memoryview(blob)[_HEADER.size :]
        return Snapshot(folded, state=self._read_state(body)) if self._state else self._read_clusters(folded, body, category)

    def _read_state(self, body: memoryview) -> dict[str, NDArray[Any]]:
        needed = sum(array.nbytes for array in self._state.values())
        if len(body) != needed:
            raise BadSnapshot(f"{len(body)} bytes of state, the model's has {needed}")
        state, at = {}, 0
        for name, like in self._state.items():
            state[name] = np.frombuffer(body, like.dtype, like.size, at).reshape(like.shape)
            at += like.nbytes
        return state

    def _read_clusters(self, folded: int, body: memoryview, category: Callable[[Rows], Rows]) -> Snapshot:
        count, rest = divmod(len(body), self._cluster.itemsize)
        if rest or not count:
            raise BadSnapshot(f"{len(body)} bytes of clusters, {self._cluster.itemsize} each")
        made = np.frombuffer(body, self._cluster)
        row, size = made["row"].astype(np.int32), made["size"].astype(np.int32)
        if int(size.sum()) != folded:
            raise BadSnapshot(f"clusters of {size.sum()} behaviours, {folded} were folded")
        return Snapshot(folded, Behaviours(row, category(row), made["ts"].astype(np.int64), made["cross"], size))
