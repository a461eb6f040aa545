"""Load a prepared data set into the store: schema, item registry, every user's behaviour tree.

A prepared folder is what `python -m export train` leaves under runs/data/<name>: schema.json,
registry.npz and behaviours.parquet, sorted by user. The behaviours may also stand elsewhere, in many
files and any order. No torch is needed to load them.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from redis import Redis

from store import keys
from store.append import DEFAULT_CAPS, Caps
from store.arrays import BadArrays
from store.connection import connect
from store.load_job import Job, Loaded, checked_job
from store.registry import Registry, StoredRegistry
from store.schema import Schema, stored_schema
from store.types import Behaviours

SCHEMA_FILE = "schema.json"
REGISTRY_FILE = "registry.npz"
BEHAVIOURS_FILE = "behaviours.parquet"  # user_id, row, ts, then one uint8 column per cross feature


class NotPrepared(ValueError):
    """A folder that is no prepared data set, or one that contradicts itself."""


@dataclass(frozen=True)
class Prepared:
    """What stands beside the behaviours of a prepared data set."""

    folder: Path
    schema: Schema
    registry: Registry

    @staticmethod
    def open(folder: Path, with_behaviours: bool = True) -> "Prepared":
        """Read schema and registry; `with_behaviours`: they must be in the folder too.

        Raises:
            NotPrepared: a file is missing or unreadable.
        """
        try:
            schema = Schema.model_validate_json((folder / SCHEMA_FILE).read_bytes())
            registry = Registry.load(folder / REGISTRY_FILE)
            columns = pq.read_schema(folder / BEHAVIOURS_FILE).names if with_behaviours else None
        except ValidationError as error:
            fault = error.errors()[0]
            raise NotPrepared(f"{folder / SCHEMA_FILE}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
        except pa.ArrowInvalid as error:
            raise NotPrepared(f"{folder / BEHAVIOURS_FILE}: {error}") from error
        except (OSError, BadArrays) as error:
            raise NotPrepared(f"{folder}: not a prepared data set ({error})") from error
        needed = ["user_id", "row", "ts", *(feature.name for feature in schema.cross_features)]
        if columns is not None and (absent := [name for name in needed if name not in columns]):
            raise NotPrepared(f"{folder / BEHAVIOURS_FILE}: column {', '.join(absent)} is missing")
        if registry.data != schema.data:
            raise NotPrepared(f"{folder}: the schema is of {schema.data}, the registry of {registry.data}")
        return Prepared(folder, schema, registry)

    def users(self) -> Iterator[tuple[str, Behaviours]]:
        """Each user's behaviours, in order, one row group of the file in memory at a time.

        Raises:
            NotPrepared: the file is not sorted by user: a user in two places would lose the first.
        """
        last = None
        for user_id, behaviours in self._runs():
            if last is not None and user_id <= last:
                raise NotPrepared(f"{self.folder / BEHAVIOURS_FILE}: not sorted by user_id: {user_id!r} after {last!r}")
            last = user_id
            yield user_id, behaviours

    def _runs(self) -> Iterator[tuple[str, Behaviours]]:
        """Runs of rows of one user."""
        cross_names = [feature.name for feature in self.schema.cross_features]
        waiting: list[pa.Table] = []  # the last user of a row group may go on in the next
        with pq.ParquetFile(self.folder / BEHAVIOURS_FILE) as file:
            for group in range(file.num_row_groups):
                table = pa.concat_tables([*waiting, file.read_row_group(group, ["user_id", "row", "ts", *cross_names])])
                users = table["user_id"].combine_chunks()
                starts = _run_starts(users)
                for start, end in pairwise(starts):
                    yield users[start].as_py(), self._behaviours(table.slice(start, end - start), cross_names)
                waiting = [table.slice(starts[-1])] if starts else []
        for table in waiting:
            yield table["user_id"][0].as_py(), self._behaviours(table, cross_names)

    def _behaviours(self, table: pa.Table, cross_names: list[str]) -> Behaviours:
        row = table["row"].to_numpy().astype(np.int32)
        cross = np.zeros((len(row), len(cross_names)), np.uint8)
        for j, name in enumerate(cross_names):
            cross[:, j] = table[name].to_numpy()
        return Behaviours(row, self.registry.category_of(row), table["ts"].to_numpy().astype(np.int64), cross)

    @property
    def rows(self) -> int:
        """Behaviours in the file."""
        return int(pq.read_metadata(self.folder / BEHAVIOURS_FILE).num_rows)


def _run_starts(users: pa.Array) -> list[int]:
    codes = users.dictionary_encode().indices.to_numpy()
    return [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()] if len(codes) else []


def load(
    prepared: Prepared,
    url: str,
    written: Callable[[Loaded], None],
    behaviours: str | None = None,
    ray: str | None = None,
    caps: Caps = DEFAULT_CAPS,
) -> Loaded:
    """Bring schema, registry and trees into the store; a second load changes nothing.

    Behaviours join those that a tree has, so events that were appended stay, and a load that was killed is finished by
    running it again.

    Args:
        url: of the store. written: told of each batch as it is acknowledged.
        behaviours: Parquet in place of the folder's own: a file, a folder, a glob, or a URL of an object store.
        ray: address of a Ray cluster to run on; None = in this process.
        caps: what is kept of a user.

    Raises:
        BadBehaviours: a file is missing or unreadable, or one of its values is wrong; nothing was written.
        RegistryMismatch, SchemaMismatch: the store holds another data set of that name.
        redis.exceptions.RedisError: the store failed.
    """
    data, registry = prepared.schema.data, prepared.registry
    buckets = {feature.name: feature.buckets for feature in prepared.schema.cross_features}
    source = behaviours or str(prepared.folder / BEHAVIOURS_FILE)
    run = checked_job(Job(source, url, data, buckets, registry.category, caps), ray)
    with closing(connect(url)) as redis:
        store_schema(redis, prepared.schema)
        StoredRegistry(redis, data).load(registry)
    return run(written)


class SchemaMismatch(ValueError):
    """The store's schema of this data set is another one."""


def store_schema(redis: Redis, schema: Schema) -> None:
    """Put the schema into the store, once."""
    redis.set(keys.schema(schema.data), schema.model_dump_json(), nx=True)
    stored = stored_schema(redis, schema.data)
    if stored is None or stored.version != schema.version:
        raise SchemaMismatch(
            f"the store holds schema {stored and stored.version} of {schema.data}, the data set has {schema.version}: "
            "records made with one cannot be read with the other; load into an empty store"
        )
    redis.hset(keys.registry_meta(schema.data), "schema_version", schema.version)
