"""Blocks of published item tables that the cache lacks: read from the store, checked, kept."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.exceptions import RedisError

from service.behaviours import reason, reported
from service.block_cache import BlockCache, CachedTable
from service.metrics import Metrics
from store.breaker import Breaker
from store.published import block_key
from store.table_values import BadBlock, decode_block

log = logging.getLogger("longtrail")

AT_ONCE = 256  # blocks of one round trip, 4 MiB
Wanted = tuple[CachedTable, int]
Blocks = dict[tuple[str, int], NDArray[Any]]  # by name of the table and number


class BlockReader:
    """Blocks of one model, bounded in time, never an exception."""

    def __init__(
        self, redis: Redis, data: str, model: str, limit_s: float, cache: BlockCache, breaker: Breaker, metrics: Metrics
    ) -> None:  # fmt: skip
        """`limit_s`: after this time a request asks for no further blocks."""
        self._redis, self._data, self._model, self._limit_s = redis, data, model, limit_s
        self._cache, self._breaker, self._metrics = cache, breaker, metrics

    def read(self, wanted: Sequence[Wanted], store_failed: bool) -> tuple[Blocks, tuple[str, ...]]:
        """The blocks, and why some of them are not among them. `store_failed`: it did already, and is not asked again."""
        if store_failed or not self._breaker.allows():
            return {}, () if store_failed else ("store_down",)
        found: Blocks = {}
        end, bad = time.monotonic() + self._limit_s, False
        try:
            with reported(self._breaker):
                for at in range(0, len(wanted), AT_ONCE):
                    if at and time.monotonic() > end:
                        return found, ("store_timeout",)  # it answers: there is only too much to ask for
                    bad |= self._read_some(wanted[at : at + AT_ONCE], found)
        except RedisError as error:
            return found, (reason(error),)
        return found, ("bad_record",) if bad else ()

    def prefetch(self, wanted: Sequence[Wanted]) -> None:
        """Bring blocks into the cache, however long it takes.

        Raises:
            redis.exceptions.RedisError: the store failed; what came before is kept.
        """
        for at in range(0, len(wanted), AT_ONCE):
            self._read_some(wanted[at : at + AT_ONCE], {})

    def first_rows(self, table: CachedTable, count: int) -> NDArray[Any]:
        """The first rows of a table, past the cache.

        Raises:
            redis.exceptions.RedisError: the store failed; BadBlock: it has not got them.
        """
        blocks = range(-(-count // table.form.block_rows))
        found: Blocks = {}
        if self._read_some([(table, block) for block in blocks], found, keep=False):
            raise BadBlock(f"{table.form.name}: its first rows cannot be read")
        return np.concatenate([found[table.form.name, block] for block in blocks])[:count]

    def count(self, blocks: int, missing: int) -> None:
        """Of so many blocks that a request read, so many were not in the cache."""
        self._metrics.table_hits.inc(blocks - missing)
        self._metrics.table_misses.inc(missing)

    def _read_some(self, wanted: Sequence[Wanted], found: Blocks, keep: bool = True) -> bool:
        """One round trip, kept in the cache; whether a block was not what it should be."""
        pipeline = self._redis.pipeline(transaction=False)
        for table, block in wanted:
            pipeline.get(block_key(self._data, self._model, table.form, block, int(table.digests[block])))
        bad = False
        kept: dict[int, tuple[CachedTable, list[int], list[NDArray[Any]]]] = {}
        for (table, block), value in zip(wanted, pipeline.execute(raise_on_error=False), strict=True):
            try:
                if isinstance(value, Exception):  # a key of another type, say
                    raise BadBlock(f"{table.form.name}: block {block}: {value}")
                rows = decode_block(table.form, block, int(table.digests[block]), value)
            except BadBlock as error:
                if not bad:
                    log.error("%s: item table is not whole: %s", self._model, error)
                bad = True
                continue
            found[table.form.name, block] = rows
            _, blocks, values = kept.setdefault(id(table), (table, [], []))
            blocks.append(block)
            values.append(rows)
        for table, blocks, values in kept.values() if keep else ():
            self._cache.put(table, blocks, values)
        self._metrics.table_cache_bytes.set(self._cache.bytes_held)
        return bad
