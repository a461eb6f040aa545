"""Item tables as one request reads them: the bundle's own, mapped, or published ones through the local cache.

Published tables may be larger than this machine's memory. A request gathers the rows that it needs, of its
candidates and of the behaviours that were read, into small tables and numbers them anew (0 = padding and 1 = unknown stay);
searches and graphs run on those as they are. With the bundle's own tables nothing is gathered and nothing costs anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.block_cache import BlockCache, CachedTable
from service.table_blocks import BlockReader
from store.bundle import ITEM_VECTOR, Bundle
from store.clusters import clustered_at
from store.search import SEARCHES, Search
from store.snapshot import Snapshot
from store.types import FIRST_KNOWN, UNKNOWN, Behaviours, Candidates, Rows

STALE = "table_stale"
Tables = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class RequestTables:
    """Item tables of one request: the search over them, and what the graph reads in place of those bound to it."""

    search: Search
    tables: Tables | None = None  # [U, ...] each, of the rows in `rows`; None = those of the bundle
    rows: Rows | None = None  # [U] ascending, 0 and 1 first
    degraded: tuple[str, ...] = ()
    store_failed: bool = False

    def renumbered(
        self, candidates: Candidates, behaviours: Behaviours, snapshot: Snapshot | None
    ) -> tuple[Candidates, Behaviours, Snapshot | None]:
        """The same with rows of these tables."""
        if self.rows is None:
            return candidates, behaviours, snapshot
        if snapshot is not None and snapshot.clusters is not None:
            snapshot = replace(snapshot, clusters=replace(snapshot.clusters, row=self._of(snapshot.clusters.row)))
        return replace(candidates, row=self._of(candidates.row)), replace(behaviours, row=self._of(behaviours.row)), snapshot

    def clustered(self, life: Behaviours, at: int, bundle: Bundle) -> Snapshot:
        """The snapshot that the last refresh before `at` leaves of a life, rows of these tables both."""
        item_vector = (self.tables or bundle.tables)[ITEM_VECTOR]
        return clustered_at(at, life, item_vector, bundle.manifest.schema_)

    def as_stored(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot of renumbered behaviours with rows as the bundle's registry has them."""
        if self.rows is None or snapshot.clusters is None:
            return snapshot
        return replace(snapshot, clusters=replace(snapshot.clusters, row=self.rows[snapshot.clusters.row]))

    def _of(self, row: Rows) -> Rows:
        assert self.rows is not None
        at = np.minimum(np.searchsorted(self.rows, row), len(self.rows) - 1)
        found: Rows = np.where(self.rows[at] == row, at, UNKNOWN).astype(np.int32)  # not gathered: nobody reads it
        return found


class ItemTables(Protocol):
    """One version of a model's item tables."""

    @property
    def version(self) -> str:
        """Which one."""

    @property
    def made_at(self) -> float:
        """When it was published, Unix seconds."""

    def of_request(
        self, bundle: Bundle, candidates: Candidates, behaviours: Behaviours, snapshot: Snapshot | None, store_failed: bool
    ) -> RequestTables:
        """Tables that hold the rows of a request; `store_failed`: the store is not to be asked."""


class MappedTables:
    """The bundle's own: nothing is gathered."""

    def __init__(self, bundle: Bundle) -> None:
        self.version = bundle.manifest.version
        self.made_at = datetime.strptime(self.version, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        self._whole = RequestTables(bundle.search)

    def of_request(
        self, bundle: Bundle, candidates: Candidates, behaviours: Behaviours, snapshot: Snapshot | None, store_failed: bool
    ) -> RequestTables:
        """The whole tables."""
        return self._whole


class StoredTables:
    """A published version, read through the cache."""

    def __init__(
        self, version: str, made_at: float, tables: dict[str, CachedTable], first: Tables, constants: Tables,
        cache: BlockCache, reader: BlockReader,
    ) -> None:  # fmt: skip
        """
        Args:
            first: rows 0 and 1 of each table, which every request needs.
            constants: the tables of the bundle that have no row per item.
        """
        self.version, self.made_at, self.tables, self.first = version, made_at, tables, first
        self._constants, self._cache, self._reader = constants, cache, reader

    def made_again(self, made_at: float) -> "StoredTables":
        """The same version, published once more."""
        return StoredTables(self.version, made_at, self.tables, self.first, self._constants, self._cache, self._reader)

    def of_request(
        self, bundle: Bundle, candidates: Candidates, behaviours: Behaviours, snapshot: Snapshot | None, store_failed: bool
    ) -> RequestTables:
        """Tables of the rows that this request's search and graph read: one round trip where the cache lacks some.

        Rows that cannot be read count as unknown, with the reason in `degraded`.
        """
        manifest, known = bundle.manifest, bundle.registry.known
        searched = behaviours if snapshot is None else snapshot.and_newer(behaviours)
        newest = behaviours.row[max(len(behaviours) - manifest.recent, 0) :]
        rows = np.unique(np.concatenate([[0, UNKNOWN], candidates.row, known(searched.row), known(newest)]).astype(np.int32))
        tables, reasons = self._gather(rows, store_failed)
        search = SEARCHES[manifest.search.name](manifest.search, {**self._constants, **tables})
        return RequestTables(search, tables, rows, reasons, bool(reasons) and reasons != ("bad_record",))

    def _gather(self, rows: Rows, store_failed: bool) -> tuple[Tables, tuple[str, ...]]:
        """Values of the rows, and why some of them are those of the unknown item."""
        out = {name: np.empty((len(rows), *table.form.row), table.form.dtype) for name, table in self.tables.items()}
        taken = {name: self._cache.take(table, rows, out[name]) for name, table in self.tables.items()}
        wanted = [(self.tables[name], block) for name, (blocks, _) in taken.items() for block in blocks.tolist()]
        self._reader.count(sum(count for _, count in taken.values()), len(wanted))
        read, reasons = self._reader.read(wanted, store_failed) if wanted else ({}, ())
        lacking = np.zeros(len(rows), np.bool_)
        for table, block in wanted:
            form, values = table.form, read.get((table.form.name, block))
            first, last = np.searchsorted(rows, [block * form.block_rows, (block + 1) * form.block_rows])
            if values is None:
                lacking[first:last] = True
            else:
                out[form.name][first:last] = values[rows[first:last] - block * form.block_rows]
        for name, first_rows in self.first.items():
            out[name][lacking] = first_rows[UNKNOWN]  # in all tables alike
            out[name][:FIRST_KNOWN] = first_rows
        return out, reasons
