"""What is published: versions of item tables in the store, and the pointers that say which one is current.

One pointer per model and graph: tables are read by the graph they were made for, so a model that was trained
anew has a pointer of its own, and scorers that still run the old graph keep theirs. A pointer names everything
of its version by digest: the blocks of its tables (by one list of digests a table), the registry snapshot
and a golden request, which tells whether graph and tables belong together.
"""

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis import Redis

from store import keys
from store.bundle import GRAPH, UPDATE, Manifest
from store.table_values import HEADER_BYTES, BadBlock, TableForm, decode_block

PIECE_BYTES = 1 << 20  # of a long value: read in pieces, so that other readers of the store are not held up

Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class BadPointer(ValueError):
    """A pointer that this version cannot read."""


class PublishedFile(BaseModel):
    """A file of a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    size: int = Field(ge=0)
    digest: Digest


class PublishedTable(BaseModel):
    """A table of a version: its form, and where the digests of its blocks are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    form: TableForm
    digests: PublishedFile


class Published(BaseModel):
    """A pointer: one version of a model's item tables, whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    version: Digest  # of all that follows but the time
    graph_id: Digest
    bundle: str  # version of the bundle that it was made of
    item_rows: int = Field(ge=0)
    tables: dict[str, PublishedTable]
    registry: PublishedFile
    golden: PublishedFile
    published_at: float  # Unix seconds; two publishes never share them

    @staticmethod
    def read(content: bytes) -> "Published":
        """A pointer from the store.

        Raises:
            BadPointer: no JSON, another format, a wrong or missing field.
        """
        try:
            return Published.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise BadPointer(f"{'.'.join(map(str, fault['loc'])) or 'pointer'}: {fault['msg']}") from None


def graph_id_of(manifest: Manifest) -> str:
    """16 hex digits of what item tables belong to: the graphs, the line of item rows, the schema."""
    graphs = [manifest.files[name] for name in (GRAPH, UPDATE) if name in manifest.files]
    return hashlib.sha256("\0".join([*graphs, manifest.registry_id, manifest.schema_.version]).encode()).hexdigest()[:16]


def field_of(manifest: Manifest) -> str:
    """Where the pointer stands in the hash of pointers."""
    return f"{manifest.model}:{graph_id_of(manifest)}"


def item_table_names(manifest: Manifest) -> list[str]:
    """The tables of a bundle that have a row per item."""
    return sorted(name for name, spec in manifest.tables.items() if spec.axes[:1] == ["N"])


def block_key(data: str, model: str, form: TableForm, block: int, digest: int) -> str:
    """The key of a block."""
    return keys.table_value(data, model, f"{form.name}:{block}", f"{digest:016x}")


def file_key(data: str, model: str, name: str, digest: str) -> str:
    """The key of a file of a version."""
    return keys.table_value(data, model, name, digest)


def read_file(redis: Redis, data: str, model: str, name: str, file: PublishedFile) -> bytes:
    """The bytes of a file of a version, in pieces.

    Raises:
        BadBlock: it is missing or damaged; redis.exceptions.RedisError: the store failed.
    """
    key, whole = file_key(data, model, name, file.digest), HEADER_BYTES + file.size
    value = bytearray()
    while len(value) < whole and (piece := redis.getrange(key, len(value), len(value) + PIECE_BYTES - 1)):
        value += piece if isinstance(piece, bytes) else piece.encode()
    return decode_block(TableForm.of_file(name, file.size), 0, int(file.digest, 16), bytes(value) or None).tobytes()


def read_digests(redis: Redis, data: str, model: str, table: PublishedTable) -> NDArray[np.uint64]:
    """Digests of a table's blocks, uint64 [blocks]; raises as `read_file`."""
    digests: NDArray[Any] = np.frombuffer(read_file(redis, data, model, digests_name(table.form), table.digests), "<u8")
    if len(digests) != table.form.blocks:
        raise BadBlock(f"{table.form.name}: {len(digests)} digests, {table.form.blocks} blocks")
    return digests.astype(np.uint64)


def digests_name(form: TableForm) -> str:
    """The name of a table's list of digests."""
    return f"{form.name}.digests"


def keys_of(redis: Redis, data: str, model: str, published: Published) -> set[str]:
    """Every key of a version; those of a table whose digests are gone are not known any more."""
    named = [("registry.npz", published.registry), ("golden.npz", published.golden)]
    found = set()
    for table in published.tables.values():
        named.append((digests_name(table.form), table.digests))
        try:
            digests = read_digests(redis, data, model, table)
        except BadBlock:
            continue
        found |= {block_key(data, model, table.form, block, digest) for block, digest in enumerate(digests.tolist())}
    return found | {file_key(data, model, name, file.digest) for name, file in named}
