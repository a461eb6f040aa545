"""The item registry: raw id -> row and category. Append-only; a row never changes its meaning.

The registry lives in the store, one per data set; a snapshot of it is a file, made by training and
carried by every bundle. Row 0 is padding, row 1 the unknown item; categories likewise.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from store import keys
from store.arrays import BadArrays, read_arrays
from store.connection import text
from store.id_index import IdIndex
from store.scripts import Call, Script
from store.types import FIRST_KNOWN, UNKNOWN, Candidates, Rows

FORMAT = 1
NO_CATEGORY = "none"  # of an item that has none
_ARRAYS = ("format", "data", "registry_id", "category", "id_bytes", "id_ends", "name_bytes", "name_ends")


class RegistryMismatch(ValueError):
    """Two registries that should agree give one row two meanings."""


@dataclass(frozen=True)
class Registry:
    """A snapshot.

    `ids[i]` is the item of row i + 2, `category[row]` the category row of any row (0 and 1
    included), `category_names[i]` the name of category row i + 2.
    """

    data: str
    ids: list[str]
    category: Rows  # [N]
    category_names: list[str]
    registry_id: str  # one per line of descent: the digest of the first snapshot

    @property
    def item_rows(self) -> int:
        """N: rows of the snapshot, padding and unknown included."""
        return len(self.ids) + FIRST_KNOWN

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Item id -> row."""
        return {item_id: row for row, item_id in enumerate(self.ids, FIRST_KNOWN)}

    @cached_property
    def index(self) -> IdIndex:
        """Item ids -> rows, many at a time."""
        return IdIndex.of(self.ids)

    @cached_property
    def category_row_of(self) -> dict[str, int]:
        """Category name -> category row."""
        return {name: row for row, name in enumerate(self.category_names, FIRST_KNOWN)}

    def candidates(self, item_ids: list[str]) -> Candidates:
        """Rows and categories of raw ids, unknown ones as row 1. Cost: 0.1 us each."""
        row = self.index.rows(item_ids)
        return Candidates(row, self.category[row])

    def category_of(self, row: Rows) -> Rows:
        """Category rows; a row beyond the snapshot has the unknown one."""
        return self.category[self.known(row)]

    def known(self, row: Rows) -> Rows:
        """The rows, those beyond the snapshot as row 1: how tables are read."""
        return np.where(row < self.item_rows, row, UNKNOWN)

    @staticmethod
    def build(data: str, ids: list[str], categories: list[str]) -> "Registry":
        """Number items and categories in the order given; `categories[i]` belongs to `ids[i]`.

        Raises:
            ValueError: an id stands twice, or the two lists differ in length.
        """
        if len(set(ids)) != len(ids) or len(ids) != len(categories):
            raise ValueError(f"{len(ids)} ids, {len(set(ids))} different ones, {len(categories)} categories")
        names = list(dict.fromkeys(categories))
        rows = {name: row for row, name in enumerate(names, FIRST_KNOWN)}
        category = np.array([0, UNKNOWN, *(rows[name] for name in categories)], np.int32)
        digest = hashlib.sha256("\0".join([data, *ids, "", *categories]).encode()).hexdigest()[:16]
        return Registry(data, ids, category, names, digest)

    def save(self, path: Path) -> None:
        """Write the snapshot as .npz, texts as UTF-8 bytes with offsets: nothing is pickled."""
        id_bytes, id_ends = _pack(self.ids)
        name_bytes, name_ends = _pack(self.category_names)
        np.savez(
            path, format=FORMAT, data=np.frombuffer(self.data.encode(), np.uint8), category=self.category,
            registry_id=np.frombuffer(self.registry_id.encode(), np.uint8),
            id_bytes=id_bytes, id_ends=id_ends, name_bytes=name_bytes, name_ends=name_ends,
        )  # fmt: skip

    @staticmethod
    def load(path: Path, content: bytes | None = None) -> "Registry":
        """Read a snapshot; `content`: its bytes, where they come from elsewhere.

        Raises:
            BadArrays: not a snapshot, another format, or arrays that contradict each other.
        """
        arrays = read_arrays(path, _ARRAYS, content)
        try:
            if arrays["format"] != FORMAT:
                raise ValueError(f"registry format {arrays['format']}, this version reads {FORMAT}")
            ids = _unpack(arrays["id_bytes"], arrays["id_ends"])
            names = _unpack(arrays["name_bytes"], arrays["name_ends"])
            category = arrays["category"].astype(np.int32)
            data, registry_id = (bytes(arrays[name]).decode() for name in ("data", "registry_id"))
            if len(category) != len(ids) + FIRST_KNOWN or not 0 <= category.min() <= category.max() < len(names) + FIRST_KNOWN:
                raise ValueError(f"{len(ids)} ids, {len(category)} categories and {len(names)} names do not fit")
        except (ValueError, TypeError, IndexError) as error:
            raise BadArrays(f"{path}: {error}") from error
        return Registry(data, ids, category, names, registry_id)


def _pack(texts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def _unpack(packed: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[str]:
    data = packed.tobytes()
    if len(ends) and (int(ends[-1]) != len(data) or ends[0] < 0 or (np.diff(ends) < 0).any()):
        raise ValueError(f"texts end at {ends[-1]}, there are {len(data)} bytes")
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return [data[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


# KEYS: items, item_ids, categories, meta. ARGV: id1, category1, id2, category2, ...
# Returns "row category" of each id; a new id takes the next row, a new category likewise.
# One script for the loader and for events: there is one way to get a row.
REGISTER = Script("""
local reply = {}
for i = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known then
    local category = redis.call('HGET', KEYS[3], ARGV[i + 1])
    if not category then
      category = redis.call('HINCRBY', KEYS[4], 'categories', 1) + 1
      redis.call('HSET', KEYS[3], ARGV[i + 1], category)
    end
    local row = redis.call('HINCRBY', KEYS[4], 'rows', 1) + 1
    known = row .. ' ' .. category
    redis.call('HSET', KEYS[1], ARGV[i], known)
    redis.call('HSET', KEYS[2], row, ARGV[i])
  end
  reply[#reply + 1] = known
end
return reply
""")

BATCH = 2000  # ids per script call: about a millisecond each, so that readers are not held up


def stored_versions(redis: Redis, data: str) -> tuple[str, str]:
    """What the store's rows and records mean: registry_id and schema version, "" where it has none."""
    found = redis.hmget(keys.registry_meta(data), ["registry_id", "schema_version"])
    registry_id, schema_version = (text(value or b"") for value in found)
    return registry_id, schema_version


class StoredRegistry:
    """The registry in the store."""

    def __init__(self, redis: Redis, data: str) -> None:
        self._redis, self._data = redis, data

    def registry_id(self) -> str | None:
        """Which line of descent the rows in the store belong to; None = no registry yet."""
        value = self._redis.hget(keys.registry_meta(self._data), "registry_id")
        return text(value) if value else None

    def rows(self) -> int:
        """Rows given out so far, padding and unknown included."""
        return int(self._redis.hget(keys.registry_meta(self._data), "rows") or 0) + FIRST_KNOWN

    def register(self, ids: list[str], categories: list[str]) -> tuple[Rows, Rows]:
        """Rows and category rows int32 [n] of the ids, registering the new ones, atomically per batch."""
        data = self._data
        names = [keys.item_rows(data), keys.item_ids(data), keys.categories(data), keys.registry_meta(data)]
        replies: list[bytes] = []
        for start in range(0, len(ids), BATCH):
            pairs = zip(ids[start : start + BATCH], categories[start : start + BATCH], strict=True)
            replies += REGISTER.run(self._redis, Call(names, [text for pair in pairs for text in pair]))
        table = np.array([reply.split() for reply in replies], np.int32).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def load(self, snapshot: Registry) -> None:
        """Bring a snapshot into the store; loading it again changes nothing.

        Raises:
            RegistryMismatch: the store's rows belong to another registry, or one of them differs.
        """
        stored = self.registry_id()
        if stored not in (None, snapshot.registry_id):
            raise RegistryMismatch(
                f"the store holds registry {stored} of {self._data}, the snapshot is {snapshot.registry_id}: "
                "load into an empty store, or train from the store's own data"
            )
        if stored is None and self.rows() > FIRST_KNOWN:
            raise RegistryMismatch(f"the store has {self.rows()} item rows of {self._data} and no registry_id")
        self._redis.hset(keys.registry_meta(self._data), "registry_id", snapshot.registry_id)
        names = ["", "", *snapshot.category_names]
        row, category = self.register(snapshot.ids, [names[i] for i in snapshot.category[FIRST_KNOWN:]])
        expected = np.arange(FIRST_KNOWN, snapshot.item_rows, dtype=np.int32)
        wrong = np.flatnonzero((row != expected) | (category != snapshot.category[FIRST_KNOWN:]))
        if len(wrong):
            at = int(wrong[0])
            raise RegistryMismatch(f"item {snapshot.ids[at]!r}: row {row[at]} in the store, {expected[at]} in the snapshot")

    def ids_of(self, rows: list[int]) -> dict[int, str]:
        """Item ids of rows, for those that have one."""
        if not rows:
            return {}
        values = self._redis.hmget(keys.item_ids(self._data), [str(row) for row in rows])
        return {row: text(value) for row, value in zip(rows, values, strict=True) if value is not None}
