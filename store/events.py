"""Events of the outside into trees: items to rows, features to buckets, then one atomic append for each user.

The one way in, for `POST /events` and for whatever else brings events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from redis import Redis

from store import keys
from store.append import Appender, Arrived, Caps
from store.registry import NO_CATEGORY, StoredRegistry, stored_versions
from store.schema import Schema, stored_schema


class StoreNotLoaded(ValueError):
    """The store has no registry of the data set, or another one: rows and buckets would mean nothing."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a user did with an item."""

    user_id: str
    item_id: str
    ts: int  # Unix seconds
    category: str | None = None  # of a new item; None = `none`
    features: Mapping[str, float] = field(default_factory=dict)  # cross features by name; absent = missing


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a call's events."""

    accepted: int
    duplicates: int  # there already, or twice in the call
    other_category: int  # named another category than the registry has for the item; its own was used


class EventWriter:
    """Writes the events of one data set."""

    def __init__(self, redis: Redis, schema: Schema, registry_id: str, caps: Caps) -> None:
        self._redis, self._schema, self._registry_id = redis, schema, registry_id
        self._registry = StoredRegistry(redis, schema.data)
        self._appender = Appender(redis, schema.data, len(schema.cross_features), caps)

    @property
    def features(self) -> list[str]:
        """Names of the cross features that an event may have."""
        return [feature.name for feature in self._schema.cross_features]

    def write(self, events: Sequence[Event]) -> Written:
        """Put events into their users' trees; when this returns every reader sees them. Sending a call again is safe.

        An unknown item gets the next row. Cost: three round trips for all events together.

        Raises:
            StoreNotLoaded: before anything is written.
            store.append.UnreadableTree, redis.exceptions.RedisError: not acknowledged; some may have been written.
        """
        written, faults = self.write_each(events)
        for fault in faults.values():
            raise fault
        return written

    def write_each(self, events: Sequence[Event]) -> tuple[Written, dict[str, Exception]]:
        """The same user by user: what became of the events that were taken, and the fault of each user whose were not.

        Raises:
            StoreNotLoaded: before anything is written; redis.exceptions.RedisError: the store could not be reached.
        """
        self.check()
        given = [event.category or NO_CATEGORY for event in events]
        row, category = self._registry.register([event.item_id for event in events], given)
        cross = self._buckets(events)
        new = self._appender.append_each(
            [
                Arrived(event.user_id, int(row[i]), int(category[i]), event.ts, cross[i].tobytes())
                for i, event in enumerate(events)
            ]
        )
        other = sum(
            event.category is not None and named != stored and not isinstance(one, Exception)
            for event, named, stored, one in zip(events, self._rows_of(given), category.tolist(), new, strict=True)
        )
        faults: dict[str, Exception] = {}
        for event, one in zip(events, new, strict=True):
            if isinstance(one, Exception):
                faults.setdefault(event.user_id, one)
        return Written(new.count(True), new.count(False), other), faults

    def check(self) -> None:
        """Whether the store still means what this writer means.

        Raises:
            StoreNotLoaded: it holds another registry or schema, or none.
        """
        registry_id, version = stored_versions(self._redis, self._schema.data)
        if (registry_id, version) != (self._registry_id, self._schema.version):
            raise StoreNotLoaded(
                f"the store holds registry {registry_id or 'none'} and schema {version or 'none'} of {self._schema.data}, "
                f"{self._registry_id} and {self._schema.version} are needed: python -m store load"
            )

    def _buckets(self, events: Sequence[Event]) -> np.ndarray:
        """uint8 [events, J]."""
        cross = np.zeros((len(events), len(self._schema.cross_features)), np.uint8)
        for j, feature in enumerate(self._schema.cross_features):
            cross[:, j] = feature.encode(np.array([event.features.get(feature.name, np.nan) for event in events], np.float64))
        return cross

    def _rows_of(self, names: list[str]) -> list[int]:
        """Category rows of names; 0 = the registry has no such category."""
        distinct = list(dict.fromkeys(names))
        values = self._redis.hmget(keys.categories(self._schema.data), distinct)
        row = {name: int(value or 0) for name, value in zip(distinct, values, strict=True)}
        return [row[name] for name in names]


def stored_writer(redis: Redis, data: str, caps: Caps) -> EventWriter:
    """A writer by the store's own schema and registry, for who has no bundle.

    Raises:
        StoreNotLoaded: the store has none.
    """
    schema = stored_schema(redis, data)
    registry_id, _ = stored_versions(redis, data)
    if schema is None or not registry_id:
        raise StoreNotLoaded(f"the store holds no data set {data}: python -m store load --data {data}")
    return EventWriter(redis, schema, registry_id, caps)
