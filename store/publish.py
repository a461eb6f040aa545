"""Publish a bundle's item tables: all values first, then one switch of a pointer.

Readers see the old version or the new one, never a part. What is already there is not sent again: after new
items only the last blocks differ. A publish that is killed leaves the current version as it is, and its own
values expire. What a new version replaced expires after a grace time, in which scorers go over to the new one.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from store import keys
from store.bundle import GOLDEN, REGISTRY, Bundle
from store.published import (
    BadPointer,
    Published,
    PublishedFile,
    PublishedTable,
    block_key,
    digests_name,
    field_of,
    file_key,
    graph_id_of,
    item_table_names,
    keys_of,
)
from store.scripts import Call, Script
from store.table_values import TableForm, digest_of, encode_block, payload_of

LEFTOVERS_S = 3600  # how long the values of a publish that never ended stay
GRACE_S = 3600  # how long those of a replaced version do
GRAPHS_KEPT = 2  # of a model: the newest, and the one before it for scorers that still run it
AT_ONCE = 200  # values of one round trip

# KEYS: pointers. ARGV: field, the pointer that was read at the start, the new one.
SWITCH = Script("""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
return 1
""")


class PublishedMeanwhile(ValueError):
    """Another publish of the same model ended while this one was at work."""


@dataclass
class Sent:
    """What a publish did."""

    published: Published
    values: int = 0  # sent
    value_bytes: int = 0
    there: int = 0  # values that were there already


@dataclass
class _Values:
    """The values of a version, made when they are asked for."""

    data: str
    model: str
    made: dict[str, Callable[[], bytes]] = field(default_factory=dict)  # by key

    def table(self, form: TableForm, table: NDArray[Any]) -> PublishedTable:
        digests = [digest_of(form, block, payload_of(form, table, block)) for block in range(form.blocks)]
        for block, digest in enumerate(digests):
            key = block_key(self.data, self.model, form, block, digest)
            self.made[key] = lambda block=block, digest=digest: encode_block(form, digest, payload_of(form, table, block))  # type: ignore[misc]
        return PublishedTable(form=form, digests=self.file(digests_name(form), np.array(digests, "<u8").tobytes()))

    def file(self, name: str, content: bytes) -> PublishedFile:
        form = TableForm.of_file(name, len(content))
        digest = digest_of(form, 0, content)
        self.made[file_key(self.data, self.model, name, f"{digest:016x}")] = lambda: encode_block(form, digest, content)
        return PublishedFile(size=len(content), digest=f"{digest:016x}")


def publish(
    bundle: Bundle, redis: Redis, grace_s: int = GRACE_S, again: bool = False,
    progress: Callable[[int, int], None] | None = None
) -> Sent:  # fmt: skip
    """Put the item tables of a bundle into the store and make them its model's current version.

    Publishing the same again sends nothing, puts back what is missing, and makes the version young again.
    Cost: the blocks that differ; every block is looked for.

    Args:
        grace_s: how long what is replaced stays.
        again: send every value, there or not.
        progress: called with values that are there, and of how many.

    Raises:
        PublishedMeanwhile: another publish of this model was faster; nothing is switched.
        ValueError: a table has rows longer than a block.
        redis.exceptions.RedisError: the store failed; nothing is switched.
    """
    manifest = bundle.manifest
    data, model, name = manifest.data, manifest.model, field_of(manifest)
    found = read_pointers(redis, data, model)
    live = _keys_of_all(redis, data, model, found.values())
    values = _Values(data, model)
    published = _describe(bundle, values)
    sent = Sent(published)
    wanted = list(values.made)
    for at in range(0, len(wanted), AT_ONCE):
        _send(redis, {key: values.made[key] for key in wanted[at : at + AT_ONCE]}, live, again, sent)
        if progress is not None:
            progress(min(at + AT_ONCE, len(wanted)), len(wanted))
    content = published.model_dump_json().encode()
    unfinished = redis.hget(keys.unfinished_tables(data), name)  # of a publish that was killed where nothing expires
    redis.hset(keys.unfinished_tables(data), name, content)
    _each(redis, wanted, lambda pipeline, key: pipeline.persist(key))
    if not SWITCH.run(redis, Call([keys.tables(data)], [name, found.get(name, b""), content])):
        raise PublishedMeanwhile(f"{bundle.name}: another publish ended while this one was at work; run it again")
    redis.hdel(keys.unfinished_tables(data), name)
    old = [found[name]] if name in found else []
    _retire(redis, data, model, [*old, *([unfinished] if isinstance(unfinished, bytes) else [])], grace_s)
    return sent


def read_pointers(redis: Redis, data: str, model: str, key: str = "") -> dict[str, bytes]:
    """The pointers of a model as they stand, one a graph; `key`: those of another hash than the current ones."""
    return {
        name.decode(): content
        for name, content in redis.hgetall(key or keys.tables(data)).items()
        if isinstance(name, bytes) and isinstance(content, bytes) and name.decode().startswith(f"{model}:")
    }


def _describe(bundle: Bundle, values: _Values) -> Published:
    """The pointer of a bundle's tables; their values are in `values` then."""
    manifest = bundle.manifest
    tables = {
        name: values.table(TableForm.of(name, bundle.tables[name]), bundle.tables[name]) for name in item_table_names(manifest)
    }
    registry, golden = (values.file(name, (bundle.folder / name).read_bytes()) for name in (REGISTRY, GOLDEN))
    parts = [table.digests.digest for table in tables.values()] + [registry.digest, golden.digest]
    return Published(
        version=hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16], graph_id=graph_id_of(manifest),
        bundle=manifest.version, item_rows=manifest.item_rows, tables=tables, registry=registry, golden=golden,
        published_at=round(time.time(), 3),
    )  # fmt: skip


def _send(redis: Redis, made: dict[str, Callable[[], bytes]], live: set[str], again: bool, sent: Sent) -> None:
    """Bring some values into the store where they are missing: without an end where a current version needs them."""
    touched = redis.pipeline(transaction=False)
    for key in made:
        _ = touched.exists(key) if key in live else touched.expire(key, LEFTOVERS_S)
    missing = [key for key, there in zip(made, touched.execute(), strict=True) if again or not there]
    sending = redis.pipeline(transaction=False)
    for key in missing:
        value = made[key]()
        sending.set(key, value, ex=None if key in live else LEFTOVERS_S)
        sent.value_bytes += len(value)
    sending.execute()
    sent.values += len(missing)
    sent.there += len(made) - len(missing)


def _retire(redis: Redis, data: str, model: str, replaced: list[bytes], grace_s: int) -> None:
    """Let values go that no pointer names any more; pointers of old graphs go first."""
    found = read_pointers(redis, data, model)
    by_age = sorted(found, key=lambda name: _published_at(found[name]), reverse=True)
    for name in by_age[GRAPHS_KEPT:]:
        redis.hdel(keys.tables(data), name)
        replaced.append(found.pop(name))
    making = read_pointers(redis, data, model, keys.unfinished_tables(data))
    gone = _keys_of_all(redis, data, model, replaced) - _keys_of_all(redis, data, model, [*found.values(), *making.values()])
    _each(redis, sorted(gone), lambda pipeline, key: pipeline.expire(key, grace_s))


def _keys_of_all(redis: Redis, data: str, model: str, pointers: Any) -> set[str]:
    found: set[str] = set()
    for content in pointers:
        try:
            found |= keys_of(redis, data, model, Published.read(content))
        except BadPointer:
            continue  # of a version that this one cannot read: its values are left alone
    return found


def _published_at(content: bytes) -> float:
    try:
        return Published.read(content).published_at
    except BadPointer:
        return 0


def _each(redis: Redis, names: list[str], command: Callable[[Any, str], object]) -> None:
    """One command for each key, some at a time."""
    for at in range(0, len(names), AT_ONCE):
        pipeline = redis.pipeline(transaction=False)
        for key in names[at : at + AT_ONCE]:
            command(pipeline, key)
        pipeline.execute()
