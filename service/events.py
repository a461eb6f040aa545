"""POST /events: bytes -> events -> trees. An event acknowledged is in the next score of every scorer."""

import logging
import time

import orjson
from pydantic import BaseModel, ConfigDict, Field
from redis import Redis
from redis.exceptions import RedisError

from service.bundles import Bundles
from service.errors import EventsNotStored, InvalidRequest, NoModel
from service.metrics import Metrics
from service.request import Id, read_as
from service.settings import Settings
from store.events import Event, EventWriter, StoreNotLoaded
from store.types import MAX_TS

log = logging.getLogger("longtrail")


class SentEvent(BaseModel):
    """One behaviour, as a caller sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: Id
    item_id: Id
    ts: int = Field(ge=0, le=MAX_TS, description="Unix seconds.")
    action: str | None = Field(None, max_length=128, description="What it was; not stored.")
    category: Id | None = Field(None, description="Of an item that is new; absent = none.")
    features: dict[str, float | None] = Field(default_factory=dict, description="Cross features by name.")

    @property
    def given_features(self) -> dict[str, float]:
        """Those that are not null."""
        return {name: value for name, value in self.features.items() if value is not None}


class Events(BaseModel):
    """What a call holds."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"events": [{"user_id": "1228", "item_id": "1095275", "ts": 1510000000, "features": {"price": 2.5}}]}]
        },
    )
    events: list[SentEvent] = Field(min_length=1, description="Behaviours, in any order.")


class EventIntake:
    """Takes the events of the data set that is served."""

    def __init__(self, redis: Redis, bundles: Bundles, settings: Settings, metrics: Metrics) -> None:
        self._redis, self._bundles, self._settings, self._metrics = redis, bundles, settings, metrics

    def take(self, body: bytes) -> bytes:
        """Check all of a call, then write it; the answer's bytes.

        Raises:
            InvalidJson, InvalidRequest: nothing was written; the text names the event.
            NoModel: the schema is a bundle's, and none is loaded.
            EventsNotStored: the store did not acknowledge; the same call can be sent again.
        """
        arrived = time.time()
        if not self._bundles.all:
            raise NoModel("events: no bundle is loaded, and the schema comes with one")
        manifest = self._bundles.all[0].bundle.manifest
        sent = self._parse(body, [feature.name for feature in manifest.schema_.cross_features])
        settings = self._settings
        writer = EventWriter(self._redis, manifest.schema_, manifest.registry_id, settings.caps, settings.user_ttl_s)
        events = [Event(one.user_id, one.item_id, one.ts, one.category, one.given_features) for one in sent]
        try:
            written = writer.write(events)
        except (RedisError, StoreNotLoaded) as error:
            log.error("events: not stored: %s", error)
            detail = f"events: the store did not acknowledge ({error}); send the same call again"
            raise EventsNotStored(detail, "events") from None
        now = time.time()
        metrics = self._metrics
        metrics.events.labels("accepted").inc(written.accepted)
        metrics.events.labels("duplicate").inc(written.duplicates)
        metrics.other_category.inc(written.other_category)
        metrics.event_freshness.observe(now - arrived)
        for event in events:
            metrics.event_lag.observe(max(now - event.ts, 0))
        return orjson.dumps({"accepted": written.accepted, "duplicates": written.duplicates})

    def _parse(self, body: bytes, features: list[str]) -> list[SentEvent]:
        sent = read_as(Events, body, "events", self._settings.max_events).events
        for i, one in enumerate(sent):
            if unknown := sorted(set(one.features) - set(features)):
                where = f"events.{i}.features.{unknown[0]}"
                raise InvalidRequest(f"{where}: unknown, known are {', '.join(features) or 'none'}", where)
        return sent
