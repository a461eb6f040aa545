"""python -m service consume: events from a stream into trees, at least once, each put in once.

    stream -> batch -> read and checked (stream_intake.py) -> one write -> acknowledged
                  \\-> what no tree can take -> the dead-letter stream, with the reason

FastStream reads, acknowledges and claims; the sources are `redis_stream.py` and `kafka_topic.py`. A message is
acknowledged only after the store has acknowledged its events, so a consumer may be killed at any moment: what it
had not acknowledged goes to another one, or to itself after it was started again.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, Protocol, TypeVar

from prometheus_client import start_http_server
from redis import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as StoreGone
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreLate

from service.metrics import ConsumerMetrics
from service.redis_stream import RedisStream
from service.settings import Settings
from service.stream_intake import DeadLetter, Message, StreamIntake
from store import keys
from store.append import DEFAULT_CAPS
from store.connection import CLUSTER, connect
from store.events import StoreNotLoaded, stored_writer
from store.schema import stored_data_sets

log = logging.getLogger("longtrail")

RETRY_S = 0.5
TEND_EVERY_S = 5.0
LOOK_EVERY_S = 0.5

T = TypeVar("T")


class ConsumerStopped(RuntimeError):
    """Reading has ended for a reason that reading on would not change."""


class Source(Protocol):
    """Where messages come from."""

    name: str
    faults: tuple[type[Exception], ...]
    broker: Any  # FastStream's, of its kind

    async def open(self) -> None: ...
    async def bury(self, dead: list[DeadLetter]) -> None: ...
    async def tend(self, metrics: ConsumerMetrics) -> None: ...


def consume(settings: Settings, store_url: str) -> None:
    """Consume until SIGTERM or SIGINT. Waits for a store that does not answer yet.

    Raises:
        StoreNotLoaded: the store has no such data set, or several and none is named.
        ConsumerStopped: the stream or its group is gone, or the server refuses the reads.
    """
    store = connect(store_url, settings.events_timeout_ms / 1000)
    data = _patiently(lambda: served_data_set(store, settings.data))
    metrics = ConsumerMetrics()
    intake = StreamIntake(store, data, settings.caps, settings.max_events, settings.max_body_bytes, metrics.events)
    source = open_source(settings, store_url, data, intake, metrics)
    if settings.consumer_port:
        start_http_server(settings.consumer_port, settings.host, metrics.registry)
    os.environ.setdefault("FASTSTREAM_SUPERVISOR_DISABLED", "1")  # it would start a read that fails again at once, for ever
    log.info("consuming %s into %s, group %s", source.name, data, settings.events_group)
    with closing(store):
        asyncio.run(run(source, metrics))


def served_data_set(store: Redis, named: str) -> str:
    """The data set that is named, else the store's only one.

    Raises:
        StoreNotLoaded: there is none, or more than one.
    """
    if not named:
        found = stored_data_sets(store)
        if len(found) != 1:
            raise StoreNotLoaded(f"the store holds {', '.join(found) or 'no data set'}: name one in CTR_DATA, or load one")
        named = found[0]
    stored_writer(store, named, DEFAULT_CAPS)
    return named


def open_source(settings: Settings, store_url: str, data: str, intake: StreamIntake, metrics: ConsumerMetrics) -> Source:
    """The source that the settings name; nothing is connected yet."""
    source: Source

    async def handle(messages: list[Message]) -> None:
        metrics.batch.observe(len(messages))
        dead = await until_acknowledged(lambda: asyncio.to_thread(intake.take, messages), metrics, (RedisError, StoreNotLoaded))
        if dead:
            await until_acknowledged(lambda: source.bury(dead), metrics, source.faults)
            metrics.events.events.labels("dead").inc(len(dead))
            log.warning("%d messages put aside, the first: %s: %s", len(dead), dead[0].message.source, dead[0].reason)

    of_stream = logging.getLogger("longtrail.stream")
    of_stream.setLevel(logging.WARNING)
    if settings.events_url.startswith("kafka://"):
        try:
            from service.kafka_topic import KafkaTopic
        except ImportError as error:
            raise ValueError(f"CTR_EVENTS_URL: for Kafka install longtrail[kafka] ({error})") from None
        topic = settings.events_stream or f"{data}.events"
        source = KafkaTopic(settings.events_url, topic, settings, handle, of_stream)
    else:
        url = settings.events_url or store_url
        if CLUSTER in url.partition(":")[0]:
            raise ValueError(
                "CTR_EVENTS_URL: a stream is read from one server, and the store is a cluster: name a Redis or Kafka"
            )
        stream = settings.events_stream or keys.events(data)
        source = RedisStream(url, stream, settings, handle, of_stream)
    return source


async def until_acknowledged(
    attempt: Callable[[], Awaitable[T]], metrics: ConsumerMetrics, faults: tuple[type[Exception], ...]
) -> T:
    """Try until it succeeds: the messages wait, unacknowledged. Anything but `faults` is raised, a moment later."""

    async def failed(error: Exception) -> None:
        metrics.retries.inc()
        log.error("events: not stored, trying again: %s", error)

    retry = Retry(ConstantBackoff(RETRY_S), -1, faults)  # type: ignore[arg-type]
    try:
        return await retry.call_with_retry(attempt, failed)
    except Exception:
        await asyncio.sleep(RETRY_S)  # what is handed back may come again at once
        raise


async def run(source: Source, metrics: ConsumerMetrics) -> None:
    """Consume until a signal; raises as `consume`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await source.open()
        await source.broker.start()
        tended = 0.0
        while not stop.is_set():
            if not all(_reads(subscriber) for subscriber in source.broker.subscribers):
                raise ConsumerStopped(f"{source.name}: reading has ended, the log says why")
            if time.monotonic() > tended + TEND_EVERY_S:
                tended = time.monotonic()
                await _tend(source, metrics)
            try:
                await asyncio.wait_for(stop.wait(), LOOK_EVERY_S)
            except TimeoutError:
                continue
    finally:
        await source.broker.stop()


async def _tend(source: Source, metrics: ConsumerMetrics) -> None:
    try:
        await source.tend(metrics)
    except source.faults as error:
        log.warning("%s: not tended: %s", source.name, error)


def _reads(subscriber: object) -> bool:
    """Whether a subscriber still has its task."""
    ended = any(task.done() for task in getattr(subscriber, "tasks", []))
    return bool(getattr(subscriber, "running", False)) and not ended


def _patiently(call: Callable[[], T]) -> T:
    """Try until a store answers."""
    while True:
        try:
            return call()
        except (StoreGone, StoreLate) as error:
            log.error("the store does not answer, trying again: %s", error)
            time.sleep(RETRY_S)
