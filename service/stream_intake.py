"""Messages of a stream into trees, whatever broker brought them: what cannot be taken is handed back with the reason.

A message is taken whole or handed back: one bad event in it is enough. Nothing here is exact about how often a
message comes: an event is put in once, so a broker may deliver again as often as it likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import ResponseError

from service.errors import BodyTooLarge, InvalidRequest, ScorerError
from service.metrics import EventMetrics
from service.sent_events import read_message
from store.append import Caps, UnreadableTree
from store.events import Event, EventWriter, StoreNotLoaded, Written, stored_writer

A_WRITE = 1000  # events: some 20 ms of the store, well below any time limit


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as a broker delivered it."""

    source: str  # where it stands in the stream
    arrived: float  # Unix seconds by the broker's clock
    payload: bytes
    fault: str = ""  # why there is no payload to read; "" = there is


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that will never be taken as it is."""

    message: Message
    reason: str


class StreamIntake:
    """Takes the messages of one data set's stream. May be called from several threads."""

    def __init__(self, redis: Redis, data: str, caps: Caps, max_events: int, max_bytes: int, metrics: EventMetrics) -> None:
        self._redis, self._data, self._caps, self._metrics = redis, data, caps, metrics
        self._max_events, self._max_bytes = max_events, max_bytes
        self._writer: EventWriter | None = None

    def take(self, messages: Sequence[Message]) -> list[DeadLetter]:
        """Write the messages' events, all together; those messages that are no events, or that a tree refuses.

        Cost: that of `EventWriter.write`.

        Raises:
            StoreNotLoaded, redis.exceptions.RedisError: not acknowledged; the same messages can be given again.
        """
        writer = self._writer or stored_writer(self._redis, self._data, self._caps)
        try:
            dead = self._take(writer, messages)
        except StoreNotLoaded:
            self._writer = None  # loaded anew, perhaps with another schema
            raise
        self._writer = writer
        return dead

    def _take(self, writer: EventWriter, messages: Sequence[Message]) -> list[DeadLetter]:
        dead: list[DeadLetter] = []
        read: list[tuple[Message, list[Event]]] = []
        for message in messages:
            try:
                read.append((message, self._read(message, writer.features)))
            except ScorerError as error:
                dead.append(DeadLetter(message, f"{error.title}: {error.detail}"))
        events = [event for _, found in read for event in found]
        if not events:
            writer.check()  # what it does not know, the store might by now
        refused: dict[str, str] = {}  # user -> why their tree takes nothing
        written = [_write(writer, events[start : start + A_WRITE], refused) for start in range(0, len(events), A_WRITE)]
        arrived = []
        for message, found in read:
            if reasons := [refused[event.user_id] for event in found if event.user_id in refused]:
                dead.append(DeadLetter(message, f"unreadable tree: {reasons[0]}"))
            else:
                arrived.append(message.arrived)
        taken = [event for event in events if event.user_id not in refused]
        self._metrics.count(_sum(written), taken, arrived)
        return dead

    def _read(self, message: Message, features: Sequence[str]) -> list[Event]:
        if message.fault:
            raise InvalidRequest(message.fault)
        if len(message.payload) > self._max_bytes:
            raise BodyTooLarge(f"message: {len(message.payload)} bytes, limit {self._max_bytes}")
        return read_message(message.payload, features, self._max_events)


def _write(writer: EventWriter, events: Sequence[Event], refused: dict[str, str]) -> Written:
    """Write all that the trees take; `refused` gets the users whose tree does not."""
    written, faults = writer.write_each(events)
    for user_id, fault in faults.items():
        if not (isinstance(fault, UnreadableTree) or (isinstance(fault, ResponseError) and str(fault).startswith("WRONGTYPE"))):
            raise fault  # the store's, not the tree's: all come again
        refused[user_id] = str(fault)
    return written


def _sum(parts: Sequence[Written]) -> Written:
    return Written(*(sum(getattr(part, name) for part in parts) for name in ("accepted", "duplicates", "other_category")))
