"""The schema of a data set: what a behaviour's cross features and a request's context mean.

It is in the store and in each bundle's manifest; the two must be equal, or the bytes of a record
would mean one thing to the loader and another to the model.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis import Redis

from store import keys
from store.connection import text
from store.keys import check_data_name
from store.types import PADDING, UNKNOWN, Bytes

MAX_EDGES = 253  # bucket numbers 1..254 fit a byte beside 0 = missing
CLOCK_CONTEXT = {"hour": 24, "weekday": 7}  # made from `at` (UTC) where the request does not give them


def category_text(value: object) -> str:
    """The text of a categorical value; 13.0 is 13: a column with one missing integer is read as fractions."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class CrossFeature(BaseModel):
    """A numeric column of the behaviours, cut into buckets at edges made from the training rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    edges: Annotated[list[float], Field(max_length=MAX_EDGES)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not (np.isfinite(self.edges).all() and (np.diff(self.edges) > 0).all()):
            raise ValueError(f"edges of {self.name}: finite and ascending numbers are needed")
        return self

    @property
    def buckets(self) -> int:
        """How many values a byte of this feature can take, 0 = missing among them."""
        return len(self.edges) + 2

    def encode(self, values: NDArray[np.float64]) -> Bytes:
        """Bucket 1..len(edges)+1 of each value uint8 [L]; NaN is missing, 0."""
        buckets = np.searchsorted(self.edges, values, side="right") + 1
        return np.where(np.isnan(values), 0, buckets).astype(np.uint8)


class ContextFeature(BaseModel):
    """A categorical column of the request; the value's position + 2 is what the model reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    values: list[str]

    @property
    def size(self) -> int:
        return len(self.values) + 2

    def encode(self, value: object) -> int:
        """Position of the value; absent (None) = 0, one never seen = 1."""
        if value is None:
            return PADDING
        try:
            return self.values.index(category_text(value)) + 2
        except ValueError:
            return UNKNOWN


class Schema(BaseModel):
    """One per data set; `version` is the digest of everything else in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    data: str
    cross_features: list[CrossFeature]
    context: list[ContextFeature]
    time_from_steps: bool = False  # ts = step x 3600: order without a clock
    negative_behaviours: bool = False  # rows with label 0 are behaviours too: how one went, its cross features tell
    version: str = ""

    @model_validator(mode="after")
    def _sign(self) -> Self:
        check_data_name(self.data)
        names = [feature.name for feature in self.cross_features] + self.context_names
        if len(set(names)) != len(names):
            raise ValueError(f"a feature stands twice in {names}")
        later = set() if self.negative_behaviours else {"negative_behaviours"}  # schemas older than it keep their version
        digest = hashlib.sha256(self.model_dump_json(exclude={"version"} | later).encode()).hexdigest()[:16]
        if self.version not in ("", digest):
            raise ValueError(f"schema version {self.version} does not match its content ({digest})")
        object.__setattr__(self, "version", digest)
        return self

    @property
    def context_names(self) -> list[str]:
        return [feature.name for feature in self.context]

    def encode_context(self, given: Mapping[str, object], at: int) -> NDArray[np.int32]:
        """Context int32 [F] in the schema's order; the clock's own values where none are given."""
        moment = datetime.fromtimestamp(at, UTC)
        values: dict[str, object] = {"hour": moment.hour, "weekday": moment.weekday()}
        values |= {name: value for name, value in given.items() if value is not None}  # null is absent
        return np.array([feature.encode(values.get(feature.name)) for feature in self.context], np.int32)


def stored_schema(redis: Redis, data: str) -> Schema | None:
    """The store's schema of a data set, if it has one."""
    content = redis.get(keys.schema(data))
    return None if content is None else Schema.model_validate_json(content)


def stored_data_sets(redis: Redis) -> list[str]:
    """Names of the data sets that the store holds. Cost: a walk over all its keys, about a second a million."""
    suffix = keys.schema("")
    found = (text(key).removesuffix(suffix) for key in redis.scan_iter(keys.schema("*"), count=10_000, _type="STRING"))
    return sorted({name for name in found if keys.is_data_name(name)})
