"""New versions of published item tables: noticed, made ready beside the old one, checked, switched to.

A switch replaces one reference (`Bundles.replace`): a request keeps the version that it began with. What does not fit is
refused with its reason, once, and the old version stays; a store that does not answer changes nothing.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.exceptions import RedisError

from service.behaviours import reason
from service.block_cache import BlockCache, CachedTable
from service.bundles import Bundles
from service.loading import LoadedBundle, golden_difference
from service.metrics import Metrics
from service.settings import Settings
from service.table_blocks import BlockReader
from service.tables import MappedTables, StoredTables
from store import keys
from store.arrays import BadArrays
from store.breaker import Breaker
from store.bundle import GOLDEN, REGISTRY, Bundle, BundleInvalid, read_golden
from store.connection import connect
from store.published import BadPointer, Published, field_of, item_table_names, read_digests, read_file
from store.registry import Registry
from store.table_values import BLOCK_BYTES, BadBlock, TableForm
from store.types import FIRST_KNOWN

log = logging.getLogger("longtrail")

PATIENCE_S = 60.0  # what a new version may take to be read
TIMEOUT_S = 10.0  # for a reply to the thread that makes a version ready


class TablesRefused(ValueError):
    """A published version that does not fit the bundle that is served."""


@dataclass
class Followed:
    """One version that is loaded, and what was published for it so far."""

    bundled: Bundle  # with its own tables
    of_requests: BlockReader
    patient: BlockReader
    seen: bytes | None = None  # the pointer that was taken or refused last
    taken: Published | None = None


class TableRefresher:
    """Asks the pointers of all versions that are loaded, now and then, in a thread of its own."""

    def __init__(
        self, bundles: Bundles, request_redis: Redis, own_redis: Redis, cache_bytes: int, limit_s: float, metrics: Metrics
    ) -> None:  # fmt: skip
        """
        Args:
            request_redis: the client of requests, whose time limit is short; own_redis: one that may wait for long values.
            limit_s: how long a request may read blocks.
        """
        self._bundles, self._redis, self._metrics = bundles, own_redis, metrics
        self._request_redis, self._limit_s = request_redis, limit_s
        self._cache, self._breaker = BlockCache(cache_bytes), Breaker()
        self._followed: dict[tuple[str, str], Followed] = {}  # by model and version
        self._store_failed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, poll_s: float) -> None:
        """Look once, then every `poll_s` seconds beside the requests."""
        self._look()
        self._thread = threading.Thread(target=self._run, args=(poll_s,), name="tables", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._redis.close()

    def poll(self) -> None:
        """Look at the pointer of every version that is loaded once, and go over to what is new."""
        everything = self._bundles.loaded
        self._followed = {name: one for name, one in self._followed.items() if name in {(o.model, o.version) for o in everything}}
        for loaded in everything:
            try:
                self._refresh(loaded)
                self._store_failed = False
            except RedisError as error:
                self._metrics.table_refreshes.labels("failed").inc()
                level = logging.DEBUG if self._store_failed else logging.ERROR
                log.log(level, "%s: tables not refreshed: %s", loaded.model, error)
                self._store_failed = True
                if reason(error) != "store_error":
                    return  # it does not answer: not even for the other models

    def _run(self, poll_s: float) -> None:
        while not self._ended.wait(poll_s):
            self._look()

    def _look(self) -> None:
        try:
            self.poll()
        except Exception:  # the edge: the scorer serves what it has, and looks again
            log.exception("refreshing item tables failed")

    def _followed_for(self, loaded: LoadedBundle) -> Followed:
        """What is known of a version; nothing yet, where it was loaded since the last look."""
        name = (loaded.model, loaded.version)
        known = self._followed.get(name)
        if known is None or (isinstance(loaded.tables, MappedTables) and loaded.bundle is not known.bundled):
            data, cache, metrics = loaded.bundle.manifest.data, self._cache, self._metrics
            known = self._followed[name] = Followed(
                loaded.bundle,
                BlockReader(self._request_redis, data, loaded.model, self._limit_s, cache, self._breaker, metrics),
                BlockReader(self._redis, data, loaded.model, PATIENCE_S, cache, Breaker(), metrics),
            )
        return known

    def _refresh(self, loaded: LoadedBundle) -> None:
        model, followed = loaded.model, self._followed_for(loaded)
        manifest = followed.bundled.manifest
        content = self._redis.hget(keys.tables(manifest.data), field_of(manifest))
        if not isinstance(content, bytes) or content == followed.seen:
            return
        try:
            published = Published.read(content)
            before = loaded.tables if isinstance(loaded.tables, StoredTables) else None
            if before is not None and before.version == published.version:
                ready = LoadedBundle(loaded.bundle, loaded.graph, before.made_again(published.published_at))
            else:
                ready = self._ready(followed, published, loaded, before)
        except (BadPointer, BadBlock, BadArrays, BundleInvalid, TablesRefused) as error:
            log.error("%s: published tables refused: %s", model, error)
            self._metrics.table_refreshes.labels("refused").inc()
            followed.seen = content
            return
        self._bundles.replace(ready)
        followed.seen, followed.taken = content, published
        self._metrics.table_refreshes.labels("ok").inc()
        log.info("%s: tables %s, published %s", model, ready.tables.version, published.published_at)

    def _ready(
        self, followed: Followed, published: Published, loaded: LoadedBundle, before: StoredTables | None
    ) -> LoadedBundle:  # fmt: skip
        """A new version beside the old one: checked, its blocks in the cache as far as the old one's were."""
        bundle, data, model = followed.bundled, loaded.bundle.manifest.data, loaded.model
        check_forms(bundle, published)
        registry = self._registry(followed, published, loaded.bundle)
        old = {} if before is None else before.tables
        tables = {
            name: CachedTable(table.form, read_digests(self._redis, data, model, table), old.get(name))
            for name, table in published.tables.items()
        }
        constants = {name: table for name, table in bundle.tables.items() if name not in tables}
        patient, of_requests = followed.patient, followed.of_requests
        patient.prefetch(self._hot(tables, old))
        first = {name: patient.first_rows(table, FIRST_KNOWN) for name, table in tables.items()}

        def version(reader: BlockReader) -> LoadedBundle:
            made = StoredTables(published.version, published.published_at, tables, first, constants, self._cache, reader)
            return LoadedBundle(bundle.with_items(registry), loaded.graph, made)

        self._check_golden(published, version(patient))
        return version(of_requests)

    def _registry(self, followed: Followed, published: Published, bundle: Bundle) -> Registry:
        """The snapshot of a version; it must be of the same line, where no row has two meanings."""
        current = followed.taken
        if current is not None and current.registry == published.registry:
            return bundle.registry
        content = read_file(self._redis, bundle.manifest.data, bundle.manifest.model, REGISTRY, published.registry)
        registry = Registry.load(Path(REGISTRY), content)
        for other in (bundle.registry, followed.bundled.registry):
            check_line(registry, other)
        if registry.item_rows != published.item_rows:
            raise TablesRefused(f"the registry has {registry.item_rows} rows, the tables {published.item_rows}")
        return registry

    def _hot(self, tables: dict[str, CachedTable], old: dict[str, CachedTable]) -> list[tuple[CachedTable, int]]:
        """Blocks that the cache lacks: those whose old version it has, most recently read first, then from the first
        rows on. Half of what it can hold at most, so that the old version's are not all pushed out."""
        lacking: list[tuple[CachedTable, int]] = []
        read_at: list[NDArray[np.int64]] = []
        for name, table in tables.items():
            blocks = np.flatnonzero(~self._cache.held(table))[: self._cache.slots]
            last_read = np.zeros(len(table.digests), np.int64)
            if name in old:
                known = self._cache.last_read(old[name])[: len(last_read)]
                last_read[: len(known)] = known
            lacking += [(table, block) for block in blocks.tolist()]
            read_at.append(last_read[blocks])
        order = np.argsort(-np.concatenate(read_at), kind="stable")[: self._cache.slots // 2]
        return [lacking[at] for at in order.tolist()]

    def _check_golden(self, published: Published, ready: LoadedBundle) -> None:
        """The version's own golden request, by this scorer's graph over the version's tables."""
        manifest = ready.bundle.manifest
        content = read_file(self._redis, manifest.data, ready.model, GOLDEN, published.golden)
        golden = read_golden(Path(GOLDEN), manifest, content)
        difference, lacking = golden_difference(ready, golden)
        if lacking and lacking != ("bad_record",):
            raise RedisError(f"the golden request was not read: {', '.join(lacking)}")
        tolerance = ready.graph.tolerance
        if lacking or not difference <= tolerance:  # NaN too
            raise TablesRefused(f"golden scores differ by {difference:.2g}, tolerance {tolerance:.2g}; {len(lacking)} blocks bad")


def check_forms(bundle: Bundle, published: Published) -> None:
    """Whether published tables have the shapes that the bundle's search and graph were made for.

    Raises:
        TablesRefused: they do not; the text names the table.
    """
    if sorted(published.tables) != (needed := item_table_names(bundle.manifest)):
        raise TablesRefused(f"tables {', '.join(sorted(published.tables))}, the bundle reads {', '.join(needed)}")
    for name, table in published.tables.items():
        form, own = table.form, TableForm.of(name, bundle.tables[name])
        if (form.name, form.dtype, form.row) != (own.name, own.dtype, own.row):
            raise TablesRefused(f"{name}: {form.dtype} {list(form.row)}, the bundle has {own.dtype} {list(own.row)}")
        if form.rows != published.item_rows or form.rows < FIRST_KNOWN:
            raise TablesRefused(f"{name}: {form.rows} rows, the version has {published.item_rows}")
        if form.block_rows * form.row_bytes > BLOCK_BYTES:
            raise TablesRefused(f"{name}: blocks of {form.block_rows * form.row_bytes} bytes, the cache's have {BLOCK_BYTES}")


def check_line(registry: Registry, other: Registry) -> None:
    """Whether every row that two snapshots have means the same item of the same category in both.

    Raises:
        TablesRefused: one does not.
    """
    if (registry.data, registry.registry_id) != (other.data, other.registry_id):
        raise TablesRefused(f"registry {registry.registry_id} of {registry.data}, not {other.registry_id} of {other.data}")
    both = min(len(registry.ids), len(other.ids))
    names = min(len(registry.category_names), len(other.category_names))
    same = registry.ids[:both] == other.ids[:both] and registry.category_names[:names] == other.category_names[:names]
    rows = both + FIRST_KNOWN
    if not same or (registry.category[:rows] != other.category[:rows]).any():
        raise TablesRefused("the registry gives a row another item or category than the one in use")


def open_refresher(
    settings: Settings, bundles: Bundles, request_redis: Redis, redis_url: str, metrics: Metrics
) -> TableRefresher | None:  # fmt: skip
    """A refresher where the settings ask for published tables; it has looked at nothing yet."""
    if settings.tables != "store":
        return None
    own = connect(redis_url, TIMEOUT_S, settings.store_connect_timeout_ms / 1000)
    limit_s, cache_bytes = settings.store_timeout_ms / 1000, settings.table_cache_mb << 20
    return TableRefresher(bundles, request_redis, own, cache_bytes, limit_s, metrics)
