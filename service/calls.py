"""One running scorer: calls as bytes in and out, through slots and threads. What a score takes is in `pipeline.py`."""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastapi import Request, Response
from redis import Redis
from starlette.requests import ClientDisconnect

from service.behaviours import StoreReader
from service.bundles import Bundles
from service.caller import IN_SCOPE
from service.errors import BodyTooLarge, DeadlineExceeded, NoMemory, UnsupportedMedia
from service.events import EventIntake
from service.finished import Finished, Watcher, state_of, watched
from service.loading import Loading
from service.metrics import STAGES, Metrics, Stage, StageTimer
from service.pipeline import Scorer, score
from service.problems import request_id_of
from service.request import ScoreRequest, parse
from service.scores import ScoreResponse
from service.search_threads import SearchThreads
from service.settings import Settings
from service.shadow import Shadow
from service.shared_metrics import exposition
from service.slots import Queue, Slots
from service.slow_log import SlowLog
from service.table_refresh import open_refresher
from service.threads import Threads
from service.user_map import UserMaps
from service.users import UserTrees
from store.connection import connect

if TYPE_CHECKING:
    from service.request_log import RequestLog
    from service.traces import Traces

JSON = ("application/json",)


class Wire(Protocol):
    """One way to write a call of scoring; an object for each call."""

    counted: bool  # whether it is a request of production: in the metrics of scoring, the request log, and shown to a shadow

    @property
    def media(self) -> tuple[str, ...]:
        """Types of bodies that are read; none = any."""

    def read(self, body: bytes, max_candidates: int) -> ScoreRequest:
        """The request; raises a ScorerError."""

    def write(self, response: ScoreResponse, request_id: str) -> tuple[bytes, dict[str, str]]:
        """The body of a 200, and its headers."""


class NativeWire:
    """POST /score."""

    media, counted = JSON, True
    _explained = False

    def read(self, body: bytes, max_candidates: int) -> ScoreRequest:
        """As `request.py` has it."""
        request = parse(body, max_candidates)
        self._explained = request.explain > 0
        return request

    def write(self, response: ScoreResponse, request_id: str) -> tuple[bytes, dict[str, str]]:
        """As `scores.py` has it."""
        return response.to_json(request_id, self._explained), {"content-type": "application/json"}


class Service:
    """One running scorer: settings, threads, and what the pipeline needs."""

    def __init__(self, settings: Settings, redis_url: str, at_start: Mapping[str, str] | None = None) -> None:
        self.settings, self.metrics, self.draining = settings, Metrics(), False
        self.metrics.table_max_age.set(settings.table_max_age_s)
        self.stages = {stage: self.metrics.stages.labels(stage) for stage in STAGES}
        self.traces = _open_traces(settings) if settings.traces_url else None
        loading = Loading(settings.providers, settings.intra_op_threads, settings.device)
        bundles = Bundles(settings.bundles, settings.data, settings.model, loading, self.metrics, at_start)
        read_url, connect_s = settings.redis_read_url or redis_url, settings.store_connect_timeout_ms / 1000
        self.redis: Redis = connect(read_url, settings.store_timeout_ms / 1000, connect_s)
        store = StoreReader(self.redis, self.metrics, settings.store_timeout_ms / 1000)
        self.search_threads = SearchThreads(settings.search_threads, settings.request_threads)
        self.scorer = Scorer(bundles, store, settings.table_max_age_s, self.search_threads)
        self.refresher = open_refresher(settings, bundles, self.redis, redis_url, self.metrics)
        if self.refresher is not None:
            self.refresher.start(settings.table_poll_s)
        self.threads = Threads(settings.request_threads, "score")
        self.shadow = Shadow(lambda request: score(request, self.scorer, StageTimer()), self.metrics)
        self.request_log = _open_request_log(settings, bundles, self.metrics)
        self.events_redis: Redis = connect(redis_url, settings.events_timeout_ms / 1000, settings.store_connect_timeout_ms / 1000)
        self.intake = EventIntake(self.events_redis, bundles, settings.caps, settings.max_events, self.metrics.events)
        self.users, self.user_maps = UserTrees(self.events_redis, bundles), UserMaps(self.events_redis, bundles)
        # of their own: scores do not wait behind events, nor events behind the listing of a long life
        self.event_thread, self.user_thread, self.admin_thread = (Threads(1, name) for name in ("events", "users", "admin"))
        self.watchers: list[Watcher] = [SlowLog(settings.slow_ms), *([self.traces] if self.traces else [])]
        limit = settings.max_in_flight
        self.queue = Queue(settings.request_threads, settings.queue_ms / 1000)
        self.score_slots, self.event_slots, self.user_slots = Slots(limit), Slots(limit), Slots(limit)
        self.metrics.follow(self.metrics.in_flight, lambda: self.score_slots.taken)

    @property
    def bundles(self) -> Bundles:
        """What is served."""
        return self.scorer.bundles

    def exposition(self) -> bytes:
        """What /metrics answers."""
        self.bundles.say_ages()
        self.metrics.count()
        return exposition(self.metrics.registry)

    async def score(self, request: Request, wire: Wire) -> Response:
        """A call of scoring, however it is written."""
        timer = StageTimer(request.scope.get(IN_SCOPE))
        timer.allow(self.settings.timeout_ms)
        watchers = [self._observe, *self.watchers] if wire.counted else self.watchers
        with watched(request, timer, watchers), self.score_slots.take():
            body = await self._read(request, wire.media)
            with self.queue.handed():
                content, headers = await self.threads.run(self._answer, wire, body, timer, request)
        return Response(content, headers=headers | {"server-timing": timer.header()})

    async def events(self, request: Request) -> Response:
        """POST /events."""
        timer, arrived = StageTimer(), time.time()
        timer.allow(self.settings.events_timeout_ms)
        with self.event_slots.take():
            body = await self._read(request, JSON)
            content = await self.event_thread.run(self._put, body, arrived, timer)
        request_id = request_id_of(request.headers.get("x-request-id", ""))
        return Response(content, HTTPStatus.ACCEPTED, {"x-request-id": request_id}, media_type="application/json")

    async def of_store(self, call: Callable[..., bytes], *arguments: object) -> Response:
        """A call about the store alone, beside the threads of scores and events; not begun once it has waited too long."""
        timer = StageTimer()
        timer.allow(self.settings.events_timeout_ms)

        def in_time() -> bytes:
            timer.enter("request")
            return call(*arguments)

        with self.user_slots.take():
            content = await self.user_thread.run(in_time)
        return Response(content, media_type="application/json")

    async def of_admin(self, call: Callable[..., bytes], *arguments: object) -> Response:
        """A change of what is served: one at a time, beside the requests."""
        content = await self.admin_thread.run(call, *arguments)
        return Response(content, media_type="application/json")

    async def body_of(self, request: Request) -> bytes:
        """The body of an admin call; it may be empty, and of any type."""
        return await self._read(request, ())

    async def _read(self, request: Request, media: tuple[str, ...]) -> bytes:
        """The body, within the time limit: a caller that stops sending must not hold its slot."""
        try:
            async with asyncio.timeout(self.settings.timeout_ms / 1000):
                return await read_body(request, self.settings.max_body_bytes, media)
        except TimeoutError:
            raise DeadlineExceeded(f"queue: no whole body after {self.settings.timeout_ms:g} ms", "queue") from None

    def _answer(self, wire: Wire, body: bytes, timer: StageTimer, http: Request) -> tuple[bytes, dict[str, str]]:
        """Runs in a thread: bytes to bytes."""
        timer.enter("request")
        began = time.perf_counter()
        try:
            answer = self._answered(wire, body, timer, http)
        except MemoryError as error:
            detail = f"{timer.stage}: not enough memory for this request ({str(error) or 'none left'})"
            raise NoMemory(detail, timer.stage) from error
        self.queue.took(time.perf_counter() - began)  # what is dead or refused says nothing of how long a call takes
        return answer

    def _answered(self, wire: Wire, body: bytes, timer: StageTimer, http: Request) -> tuple[bytes, dict[str, str]]:
        request, state = wire.read(body, self.settings.max_candidates), state_of(http.scope)
        state["asked"] = request
        state["request_id"] = request_id = request.request_id or request_id_of(http.headers.get("x-request-id", ""))
        if request.timeout_ms is not None:
            timer.allow(request.timeout_ms)
            timer.enter("request")  # its own time may have ended while it waited
        response = score(request, self.scorer, timer)
        content, headers = wire.write(response, request_id)
        state["answered"] = response
        timer.finish()
        if wire.counted:
            self.metrics.later(self._count, len(request.item_ids), response)
            if self.request_log is not None:
                self.request_log.offer(request, response, request_id)
            self._show(request, response)
        return content, {"x-request-id": request_id, **headers}

    def _show(self, request: ScoreRequest, response: ScoreResponse) -> None:
        """To the shadow, if the model has one and did not answer by it."""
        version = self.bundles.shadow_of(response.model)
        if version is not None and version != response.version:
            self.shadow.offer(request, response, version)

    def _put(self, body: bytes, arrived: float, timer: StageTimer) -> bytes:
        """Runs in the events' thread: events that waited there too long are refused, not written."""
        timer.enter("request")
        return self.intake.take(body, arrived)

    def _observe(self, finished: Finished) -> None:
        """Stage times of what was answered, and of what was too late for it: those say what to look at."""
        if finished.status in (HTTPStatus.OK, HTTPStatus.GATEWAY_TIMEOUT):
            self.metrics.later(self._count_stages, finished.stages)

    def _count_stages(self, stages: Mapping[Stage, float]) -> None:
        for stage, seconds in stages.items():
            self.stages[stage].observe(seconds)

    def _count(self, candidates: int, response: ScoreResponse) -> None:
        metrics = self.metrics
        metrics.candidates.observe(candidates)
        metrics.behaviours.observe(response.behaviours)
        metrics.unknown_items.inc(response.unknown_items)
        metrics.mean_score.labels(response.model).observe(float(response.scores.mean()))
        for reason in response.degraded:
            metrics.degraded.labels(reason).inc()

    def close(self) -> None:
        """End threads and connections."""
        if self.refresher is not None:
            self.refresher.close()
        self.threads.close()
        self.shadow.close()
        if self.request_log is not None:
            self.request_log.close()
        self.search_threads.close()
        if self.traces is not None:
            self.traces.close()
        for thread in (self.event_thread, self.user_thread, self.admin_thread):
            thread.close()
        self.redis.close()
        self.events_redis.close()


def _open_traces(settings: Settings) -> "Traces":
    """Where spans go.

    Raises:
        ValueError: the library is not installed.
    """
    try:
        from service.traces import Traces
    except ImportError as error:
        raise ValueError(f"CTR_TRACES_URL: {error}; pip install 'longtrail[traces]'") from None
    return Traces(settings.traces_url, settings.traces_share)


def _open_request_log(settings: Settings, bundles: Bundles, metrics: Metrics) -> "RequestLog | None":
    if not settings.request_log:
        return None
    from service.request_log import RequestLog  # a scorer without one does without pyarrow

    return RequestLog(Path(settings.request_log), settings.request_log_share, bundles, metrics)


async def read_body(request: Request, limit: int, media: tuple[str, ...]) -> bytes:
    """The body of a call.

    Raises:
        UnsupportedMedia: a type that is not in `media` (none = any is), or an encoding.
        BodyTooLarge: before more than `limit` bytes are held.
        ClientDisconnect: the caller hung up before it was whole.
    """
    headers = dict(reversed(request.scope["headers"]))  # of two of a name the first counts
    given = headers.get(b"content-type", b"").decode("latin-1")
    if media and given.partition(";")[0].strip().lower() not in media:
        raise UnsupportedMedia(f"content-type: {given or 'none'}, {' or '.join(media)} is needed", "content-type")
    if (encoding := headers.get(b"content-encoding", b"identity").decode("latin-1")) != "identity":
        raise UnsupportedMedia(f"content-encoding: {encoding}, none is supported", "content-encoding")
    stated = headers.get(b"content-length", b"").decode("latin-1")
    if stated.isdigit() and int(stated) > limit:
        raise BodyTooLarge(f"body: {stated} bytes, limit {limit}", "body")
    body, is_whole = bytearray(), False
    while not is_whole:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(f"body: more than {limit} bytes, limit {limit}", "body")
        is_whole = not message.get("more_body", False)
    return bytes(body)
