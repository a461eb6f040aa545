"""Blocks of item tables in local memory: bounded, the blocks that were read longest ago go first.

One slab of equal slots serves all tables of all models, so hot tables get the room that cold ones do not need.
A slot knows the digest of the block in it: a table's list of slots may be out of date, and then it is a miss, never
another block's rows. Reading rows is a few numpy operations, whatever their number: no loop, no object a block.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.table_values import BLOCK_BYTES, TableForm
from store.types import Mask, Rows


class CachedTable:
    """One version of a table, as the cache knows it: digests of its blocks, and the slots they may be in."""

    def __init__(self, form: TableForm, digests: NDArray[np.uint64], before: "CachedTable | None" = None) -> None:
        """`before`: the version that this one comes after; blocks that did not change are in the same slots."""
        self.form, self.digests = form, digests
        self.slot = np.zeros(len(digests), np.int64)  # [blocks]; slot 0 as long as nobody knows better
        if before is not None:
            known = min(len(digests), len(before.slot))
            self.slot[:known] = before.slot[:known]


class BlockCache:
    """Shared by the request threads and the one that makes new versions ready."""

    def __init__(self, budget_bytes: int) -> None:
        """Memory is taken as blocks come, up to about `budget_bytes`; one slot at least."""
        slots = max(budget_bytes // BLOCK_BYTES, 1)
        self._slab = np.empty((slots, BLOCK_BYTES), np.uint8)  # untouched pages cost nothing
        self._digest = np.zeros(slots, np.uint64)  # of the block in each slot
        self._length = np.zeros(slots, np.int64)  # its bytes, 0 = empty
        self._read_at = np.zeros(slots, np.int64)  # on a clock of reads
        self._clock = 0
        self.bytes_held = 0  # of the blocks that are in it
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """Most blocks it holds."""
        return len(self._slab)

    def held(self, table: CachedTable) -> Mask:
        """Which blocks of a table are in it: bool [blocks]."""
        with self._lock:
            return self._there(table, np.arange(len(table.digests)))

    def last_read(self, table: CachedTable) -> NDArray[np.int64]:
        """When each block of a table was read last, 0 where it is not in it: int64 [blocks]."""
        with self._lock:
            blocks = np.arange(len(table.digests))
            return np.where(self._there(table, blocks), self._read_at[table.slot], 0)

    def take(self, table: CachedTable, row: Rows, out: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
        """Copy rows of a table into `out` [U, *row]; which blocks were not there, ascending, and of how many.

        `row`: int32 [U], ascending, U >= 1. Rows of missing blocks are left as they are. Cost: the copy.
        """
        form = table.form
        block = (row // form.block_rows).astype(np.intp)
        with self._lock:
            there = self._there(table, block)
            slot = table.slot[block]
            view = self._view(form)
            if there.all():
                out[...] = view[slot, row - block * form.block_rows]
            else:
                out[there] = view[slot[there], (row - block * form.block_rows)[there]]
            self._clock += 1
            self._read_at[slot[there]] = self._clock
        return np.unique(block[~there]), int((np.diff(block) > 0).sum()) + 1

    def put(self, table: CachedTable, blocks: Sequence[int], rows: Sequence[NDArray[Any]]) -> None:
        """Keep blocks of a table in place of those read longest ago; as many as there are slots."""
        count = min(len(blocks), self.slots)
        if not count:
            return
        with self._lock:
            victims = np.argpartition(self._read_at, count - 1)[:count]
            self._clock += 1
            for slot, block, values in zip(victims.tolist(), blocks, rows, strict=False):
                self._digest[slot] = table.digests[block]
                self.bytes_held += values.nbytes - int(self._length[slot])
                self._length[slot] = values.nbytes
                self._slab[slot, : values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
                self._read_at[slot] = self._clock
                table.slot[block] = slot

    def _there(self, table: CachedTable, block: NDArray[np.intp]) -> Mask:
        slot = table.slot[block]
        found: Mask = (self._digest[slot] == table.digests[block]) & (self._length[slot] > 0)
        return found

    def _view(self, form: TableForm) -> NDArray[Any]:
        """The slab as blocks of this table: [slots, block_rows, *row], without a copy."""
        dtype = np.dtype(form.dtype)
        inner = np.empty((1, *form.row), dtype).strides[1:]
        shape = (self.slots, form.block_rows, *form.row)
        return np.ndarray(shape, dtype, self._slab.data, 0, (BLOCK_BYTES, form.row_bytes, *inner))
