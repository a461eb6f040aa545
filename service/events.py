"""POST /events: bytes -> events -> trees. An event acknowledged is in the next score of every scorer."""

import logging

import orjson
from redis import Redis
from redis.exceptions import RedisError

from service.bundles import Bundles
from service.errors import EventsNotStored, NoModel
from service.metrics import EventMetrics
from service.sent_events import read_call
from store.append import Caps
from store.events import EventWriter, StoreNotLoaded

log = logging.getLogger("longtrail")


class EventIntake:
    """Takes the events of the data set that is served."""

    def __init__(self, redis: Redis, bundles: Bundles, caps: Caps, max_events: int, metrics: EventMetrics) -> None:
        self._redis, self._bundles, self._caps, self._max_events, self._metrics = redis, bundles, caps, max_events, metrics

    def take(self, body: bytes, arrived: float) -> bytes:
        """Check all of a call that arrived then (Unix seconds) and write it; the answer's bytes.

        Raises:
            InvalidJson, InvalidRequest: nothing was written; the text names the event.
            NoModel: the schema is a bundle's, and none is loaded.
            EventsNotStored: the store did not acknowledge; the same call can be sent again.
        """
        if not self._bundles.all:
            raise NoModel("events: no bundle is loaded, and the schema comes with one")
        manifest = self._bundles.all[0].bundle.manifest
        writer = EventWriter(self._redis, manifest.schema_, manifest.registry_id, self._caps)
        events = read_call(body, writer.features, self._max_events)
        try:
            written = writer.write(events)
        except (RedisError, StoreNotLoaded) as error:
            log.error("events: not stored: %s", error)
            detail = f"events: the store did not acknowledge ({error}); send the same call again"
            raise EventsNotStored(detail, "events") from None
        self._metrics.count(written, events, [arrived])
        return orjson.dumps({"accepted": written.accepted, "duplicates": written.duplicates})
