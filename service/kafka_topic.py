"""A Kafka topic as the consumer's source: the same contract as `redis_stream.py`; the broker itself keeps and trims."""

import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.message import StreamMessage

from service.metrics import ConsumerMetrics
from service.redis_stream import A_READ, GRACE_S, Handle
from service.settings import Settings
from service.stream_intake import DeadLetter, Message

SCHEME = "kafka://"
WAIT_MS = 10  # between two reads that found nothing; twice, in this library


class KafkaTopic:
    """Records of a topic, in batches, committed once `handle` has returned."""

    faults: tuple[type[Exception], ...] = (KafkaError,)

    def __init__(self, url: str, topic: str, settings: Settings, handle: Handle, log: logging.Logger) -> None:
        self.name = topic
        self.broker = KafkaBroker(
            url.removeprefix(SCHEME).split(","), logger=log, log_level=logging.DEBUG, apply_types=False, graceful_timeout=GRACE_S
        )
        self.broker.subscriber(
            topic, batch=True, group_id=settings.events_group, auto_offset_reset="earliest", max_records=A_READ,
            batch_timeout_ms=WAIT_MS, parser=_parse, decoder=_decode, ack_policy=AckPolicy.NACK_ON_ERROR, no_reply=True,
        )(handle)  # fmt: skip

    async def open(self) -> None:
        """Connect.

        Raises:
            aiokafka.errors.KafkaError: no broker answers.
        """
        await self.broker.connect()

    async def bury(self, dead: Sequence[DeadLetter]) -> None:
        """Put messages into the dead-letter topic, the reason in a header."""
        for letter in dead:
            headers = {"reason": letter.reason, "source": letter.message.source, "at": str(int(time.time()))}
            await self.broker.publish(letter.message.payload, topic=f"{self.name}.dead", headers=headers)

    async def tend(self, metrics: ConsumerMetrics) -> None:
        """Nothing: retention and lag are the broker's."""


async def _parse(records: Sequence[Any], parse: Callable[[Any], Awaitable[StreamMessage[Any]]]) -> StreamMessage[Any]:
    """FastStream's own way reads headers as UTF-8, and gives a batch up where one is none."""
    return await parse(tuple(dataclasses.replace(record, headers=()) for record in records))


async def _decode(message: StreamMessage[Any]) -> list[Message]:
    return [
        Message(
            f"{record.topic}/{record.partition}/{record.offset}", record.timestamp / 1000, record.value or b"",
            "" if record.value is not None else "record: no value",
        )
        for record in message.raw_message
    ]  # fmt: skip
