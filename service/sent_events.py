"""Events as they are sent, by a call or through a stream: one definition of what a valid one is.

Either an event as an object, or {"events": [...]} with several; `POST /events` takes the second form only.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from service.errors import InvalidRequest
from service.request import Id, check, read_as, read_object
from store.events import Event
from store.types import MAX_TS


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


def read_call(body: bytes, features: Sequence[str], limit: int) -> list[Event]:
    """The events of a call, at most `limit`; `features` are the names of the schema's cross features.

    Raises:
        InvalidJson, InvalidRequest: the text names the event by its index, and the field.
    """
    return _known(read_as(Events, body, "events", limit).events, features, "events.{}.")


def read_message(payload: bytes, features: Sequence[str], limit: int) -> list[Event]:
    """The events of a stream's message: one event, or several as in a call. Raises as `read_call`."""
    content = read_object(payload)
    if "events" in content:
        return _known(check(Events, content, "events", limit).events, features, "events.{}.")
    return _known([check(SentEvent, content, "", limit)], features, "")


def _known(sent: list[SentEvent], features: Sequence[str], place: str) -> list[Event]:
    for i, one in enumerate(sent):
        if unknown := sorted(set(one.features).difference(features)):
            where = f"{place.format(i)}features.{unknown[0]}"
            raise InvalidRequest(f"{where}: unknown, known are {', '.join(features) or 'none'}", where)
    return [Event(one.user_id, one.item_id, one.ts, one.category, one.given_features) for one in sent]
