"""A Redis stream with a consumer group as the consumer's source: delivery, claims, dead letters, trimming."""

import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.redis import BinaryMessageFormatV1, RedisBroker, StreamSub
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError, ResponseError

from service.metrics import ConsumerMetrics
from service.settings import Settings
from service.stream_intake import DeadLetter, Message
from store import keys

PLAIN, ENVELOPE = b"data", b"__data__"  # fields of an entry: by any client, and as FastStream publishes
A_READ = 500  # entries
WAIT_MS = 500  # a read waits so long for the next entry; one that comes ends it
CLAIM_EVERY_MS = 500
TIMEOUT_S = 5.0
RETRY_S, RETRIES = 0.5, 6  # a store that is back soon is used again at once; then the library pauses for 5 s
GRACE_S = 5.0  # for what is being written when the consumer is stopped
DEAD_LETTERS = 100_000  # are kept, about

Handle = Callable[[list[Message]], Awaitable[None]]
Entry = tuple[bytes, Mapping[bytes, bytes]]


class RedisStream:
    """Entries of a stream, in batches, acknowledged once `handle` has returned."""

    faults: tuple[type[Exception], ...] = (RedisError,)  # of `bury`: worth trying again

    def __init__(self, url: str, stream: str, settings: Settings, handle: Handle, log: logging.Logger) -> None:
        self.name, self._group, self._keep_ms = stream, settings.events_group, settings.events_keep_s * 1000
        self.broker = RedisBroker(
            url, logger=log, log_level=logging.DEBUG, apply_types=False, graceful_timeout=GRACE_S,
            socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(ConstantBackoff(RETRY_S), RETRIES),
        )  # fmt: skip
        # One name for the consumers of a host: acknowledgements and claims go by entry, and a name that is never used again stays
        of_group = {"group": self._group, "consumer": socket.gethostname(), "batch": True}
        new = StreamSub(stream, max_records=A_READ, polling_interval=WAIT_MS, **of_group)  # type: ignore[call-overload]
        left = StreamSub(  # by consumers that ended; one entry at a time, which is how the library claims
            stream, min_idle_time=settings.events_claim_ms, polling_interval=CLAIM_EVERY_MS, **of_group
        )  # type: ignore[call-overload]
        for entries in (new, left):
            self.broker.subscriber(
                stream=entries, parser=_parse, decoder=_decode, ack_policy=AckPolicy.NACK_ON_ERROR, no_reply=True
            )(handle)

    async def open(self) -> None:
        """Make stream and group if need be; a new group starts with the oldest entry.

        Raises:
            redis.exceptions.RedisError: no connection, or the key is no stream.
        """
        client = await self._client()
        try:
            await client.xgroup_create(self.name, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def bury(self, dead: Sequence[DeadLetter]) -> None:
        """Put messages into the dead-letter stream."""
        client = await self._client()
        pipeline = client.pipeline(transaction=False)
        for letter in dead:
            fields: dict[Any, Any] = {
                "payload": letter.message.payload,
                "reason": letter.reason,
                "source": letter.message.source,
                "at": int(time.time()),
            }
            pipeline.xadd(keys.dead_letters(self.name), fields, maxlen=DEAD_LETTERS, approximate=True)
        await pipeline.execute()

    async def tend(self, metrics: ConsumerMetrics) -> None:
        """Drop the oldest entries, those that every group has acknowledged and that are old enough; count the rest."""
        client = await self._client()
        needed = []
        for group in await client.xinfo_groups(self.name):
            oldest = _id(group["last-delivered-id"])
            if group["pending"]:
                summary = await client.xpending(self.name, group["name"])
                oldest = _id(summary["min"]) if summary["min"] else oldest
            needed.append(oldest)
            if group["name"] == self._group.encode():
                metrics.pending.set(group["pending"])
                metrics.waiting.set(group["lag"] if group["lag"] is not None else float("nan"))
        seconds, microseconds = await client.time()
        kept = (seconds * 1000 + microseconds // 1000 - self._keep_ms, 0)
        if needed:
            first = min([kept, *needed])
            await client.xtrim(self.name, minid=f"{max(first[0], 0)}-{first[1]}", approximate=True)

    async def _client(self) -> "Redis":
        return await self.broker.connect()


def _id(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.decode().partition("-")
    return int(milliseconds), int(number)


async def _parse(raw: Mapping[str, Any], parse: Callable[[Any], Awaitable[StreamMessage[Any]]]) -> StreamMessage[Any]:
    """FastStream's own way reads every payload as JSON, and gives a batch up where one is none."""
    message = await parse({**raw, "data": []})
    message.raw_message = raw
    return message


async def _decode(message: StreamMessage[Any]) -> list[Message]:
    raw = message.raw_message
    return [_message(entry) for entry in zip(raw["message_ids"], raw["data"], strict=True)]


def _message(entry: Entry) -> Message:
    entry_id, fields = entry
    source, arrived = entry_id.decode(), _id(entry_id)[0] / 1000
    if ENVELOPE in fields:
        payload, _ = BinaryMessageFormatV1.parse(fields[ENVELOPE])
        return Message(source, arrived, payload)
    if PLAIN in fields:
        return Message(source, arrived, fields[PLAIN])
    given = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    return Message(source, arrived, orjson.dumps(given), f"entry: fields {', '.join(given)}, `data` is needed")
