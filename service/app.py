"""The HTTP side: routes, limits, errors to problem+json. `create_app(settings)` reads no environment."""

import asyncio
import gc
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis import Redis
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import check_admin_key, check_key
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    InvalidRequest,
    ScorerError,
    UnsupportedMedia,
)
from service.events import EventIntake
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest, parse
from service.scores import ScoreResponse
from service.search_threads import SearchThreads
from service.sent_events import Events
from service.settings import Settings
from service.slots import Slots
from service.table_refresh import open_refresher
from service.users import UserTrees
from store.connection import connect

log = logging.getLogger("longtrail")

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
VERSION = "0.1.0"  # as in pyproject.toml, a test compares
PROBLEM = "application/problem+json"


class Service:
    """One running scorer: settings, threads, and what the pipeline needs."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self.settings, self.metrics = settings, Metrics()
        bundles = Bundles(
            settings.bundles, settings.data, settings.model, settings.providers, settings.intra_op_threads, self.metrics,
            settings.device,
        )  # fmt: skip
        read_url, connect_s = settings.redis_read_url or redis_url, settings.store_connect_timeout_ms / 1000
        self.redis: Redis = connect(read_url, settings.store_timeout_ms / 1000, connect_s)
        store = StoreReader(self.redis, bundles.data, self.metrics)
        self.search_threads = SearchThreads(settings.search_threads, settings.request_threads)
        self.scorer = Scorer(bundles, store, settings.table_max_age_s, self.search_threads)
        self.refresher = open_refresher(settings, bundles, self.redis, redis_url, self.metrics)
        if self.refresher is not None:
            self.refresher.start(settings.table_poll_s)
        self.threads = ThreadPoolExecutor(settings.request_threads, thread_name_prefix="score")
        self.events_redis: Redis = connect(redis_url, settings.events_timeout_ms / 1000, settings.store_connect_timeout_ms / 1000)
        self.intake = EventIntake(self.events_redis, bundles, settings.caps, settings.max_events, self.metrics.events)
        self.users = UserTrees(self.events_redis, bundles)
        # of their own: scores do not wait behind events, nor events behind the listing of a long life
        self.event_thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self.user_thread = ThreadPoolExecutor(1, thread_name_prefix="users")
        limit = settings.max_in_flight
        self.score_slots, self.event_slots, self.user_slots = Slots(limit, self.metrics.in_flight), Slots(limit), Slots(limit)

    async def score(self, request: Request) -> Response:
        """POST /score."""
        timer = StageTimer()
        timer.allow(self.settings.timeout_ms)
        with self.score_slots.take():
            body = await self._read(request)
            given = request.headers.get("x-request-id", "")
            loop = asyncio.get_running_loop()
            content, request_id = await loop.run_in_executor(self.threads, self._answer, body, given, timer, request)
        headers = {"x-request-id": request_id, "server-timing": timer.header()}
        return Response(content, headers=headers, media_type="application/json")

    async def events(self, request: Request) -> Response:
        """POST /events."""
        timer, arrived = StageTimer(), time.time()
        timer.allow(self.settings.events_timeout_ms)
        with self.event_slots.take():
            body = await self._read(request)
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self.event_thread, self._put, body, arrived, timer)
        request_id = request_id_of(request.headers.get("x-request-id", ""))
        return Response(content, HTTPStatus.ACCEPTED, {"x-request-id": request_id}, media_type="application/json")

    async def of_store(self, call: Callable[..., bytes], *arguments: object) -> Response:
        """A call about the store alone, beside the threads of scores and events."""
        with self.user_slots.take():
            content = await asyncio.get_running_loop().run_in_executor(self.user_thread, call, *arguments)
        return Response(content, media_type="application/json")

    async def _read(self, request: Request) -> bytes:
        """The body, within the time limit: a caller that stops sending must not hold its slot."""
        try:
            async with asyncio.timeout(self.settings.timeout_ms / 1000):
                return await read_body(request, self.settings.max_body_bytes)
        except TimeoutError:
            raise DeadlineExceeded(f"queue: no whole body after {self.settings.timeout_ms:g} ms", "queue") from None

    def _answer(self, body: bytes, given_id: str, timer: StageTimer, http: Request) -> tuple[bytes, str]:
        """Runs in a thread: bytes to bytes."""
        timer.enter("request")
        request = parse(body, self.settings.max_candidates)
        http.state.request_id = request_id = request.request_id or request_id_of(given_id)
        if request.timeout_ms is not None:
            timer.allow(request.timeout_ms)
        response = score(request, self.scorer, timer)
        content = response.to_json(request_id, request.explain > 0)
        self._count(request, response, timer, http)
        return content, request_id

    def _put(self, body: bytes, arrived: float, timer: StageTimer) -> bytes:
        """Runs in the events' thread: events that waited there too long are refused, not written."""
        timer.enter("request")
        return self.intake.take(body, arrived)

    def _count(self, request: ScoreRequest, response: ScoreResponse, timer: StageTimer, http: Request) -> None:
        metrics = self.metrics
        http.state.model = response.model
        timer.finish()
        for stage, seconds in timer.seconds.items():
            metrics.stages.labels(stage).observe(seconds)
        metrics.candidates.observe(len(request.item_ids))
        metrics.behaviours.observe(response.behaviours)
        metrics.unknown_items.inc(response.unknown_items)
        for reason in response.degraded:
            metrics.degraded.labels(reason).inc()

    def close(self) -> None:
        """End threads and connections."""
        if self.refresher is not None:
            self.refresher.close()
        self.threads.shutdown(wait=True)
        self.search_threads.close()
        self.event_thread.shutdown(wait=True)
        self.user_thread.shutdown(wait=True)
        self.redis.close()
        self.events_redis.close()


def create_app(settings: Settings, redis_url: str) -> FastAPI:
    """The application. Bundles are loaded and warmed when it starts; the store may come later."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await asyncio.get_running_loop().run_in_executor(None, Service, settings, redis_url)
        app.state.service = service
        bundles = service.scorer.bundles
        log.info(
            "serving %s of %s", ", ".join(entry.bundle.name for entry in bundles.all) or "no model", bundles.data or "no data"
        )
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not walk it
        yield
        service.close()

    app = FastAPI(
        title="longtrail", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        summary="Click probabilities for one user and many candidate items, from lifelong behaviours.",
    )  # fmt: skip
    app.add_exception_handler(ScorerError, _scorer_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _gone)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(_Counted, app=app)

    @app.post(
        "/score", openapi_extra={"requestBody": _body(ScoreRequest)}, summary="Score one user's candidates", responses=_RESPONSES
    )
    async def score_route(request: Request) -> Response:
        check_key(request, settings)
        service: Service = app.state.service
        return await service.score(request)

    @app.post(
        "/events", openapi_extra={"requestBody": _body(Events)}, summary="Put behaviours into users' trees", status_code=202,
        responses=_EVENT_RESPONSES,
    )  # fmt: skip
    async def events_route(request: Request) -> Response:
        check_key(request, settings)
        service: Service = app.state.service
        return await service.events(request)

    _straight(app, score_route, events_route)

    @app.get(
        "/users/{user_id:path}/behaviours",
        openapi_extra={"parameters": _LISTING},
        summary="A user's tree, newest behaviours first",
    )
    async def behaviours_route(user_id: str, request: Request) -> Response:
        check_key(request, settings)
        limit = request.query_params.get("limit", "100")
        if not re.fullmatch(r"-?[0-9]{1,9}", limit):
            raise InvalidRequest(f"limit: {limit!r}, a number is needed", "limit")
        service: Service = app.state.service
        return await service.of_store(service.users.behaviours, user_id, int(limit), request.query_params.get("after", ""))

    @app.delete("/users/{user_id:path}", summary="Remove a user's tree and every state (admin key)")
    async def delete_route(user_id: str, request: Request) -> Response:
        check_admin_key(request, settings)
        service: Service = app.state.service
        return await service.of_store(service.users.delete, user_id)

    @app.get("/v2", summary="Server metadata (Open Inference Protocol)")
    async def server_metadata(request: Request) -> dict[str, object]:
        check_key(request, settings)
        return {"name": "longtrail", "version": VERSION, "extensions": []}

    @app.get("/v2/health/live", summary="The process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", summary="At least one bundle is loaded and warmed")
    async def ready(response: Response) -> dict[str, object]:
        bundles: Bundles = app.state.service.scorer.bundles
        response.status_code = HTTPStatus.OK if bundles.names else HTTPStatus.SERVICE_UNAVAILABLE
        return {"ready": bool(bundles.names), "models": bundles.names}

    # FastAPI's own page loads its parts from other hosts; these are a package's
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json", title="longtrail", swagger_ui_parameters={"validatorUrl": None},
            swagger_js_url="swagger/swagger-ui-bundle.js", swagger_css_url="swagger/swagger-ui.css",
            swagger_favicon_url="swagger/favicon-32x32.png",
        )  # fmt: skip

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(app.state.service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _straight(app: FastAPI, *endpoints: Callable[[Request], Awaitable[Response]]) -> None:
    """Call these endpoints without FastAPI's reading of parameters, which they do not use: it costs 0.1 ms and more."""
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.endpoint in endpoints:
            route.app = _asgi(route.endpoint)


def _asgi(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return answer


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """How the API's description shows a body that is read by hand; definitions inside it, not beside the whole."""
    schema = model.model_json_schema()
    inner = schema.pop("$defs", {})
    text = json.dumps(schema)
    for name, definition in inner.items():
        text = text.replace(json.dumps({"$ref": f"#/$defs/{name}"}), json.dumps(definition))
    return {"required": True, "content": {"application/json": {"schema": json.loads(text)}}}


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a JSON call.

    Raises:
        UnsupportedMedia, BodyTooLarge: before more than `limit` bytes are held.
    """
    media = request.headers.get("content-type", "")
    if media.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMedia(f"content-type: {media or 'none'}, application/json is needed", "content-type")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedMedia(f"content-encoding: {encoding}, none is supported", "content-encoding")
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit:
        raise BodyTooLarge(f"body: {stated} bytes, limit {limit}", "body")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"body: more than {limit} bytes, limit {limit}", "body")
    return bytes(body)


def request_id_of(given: str) -> str:
    """The caller's id if it can stand in a header, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def problem(request: Request, status: int, title: str, detail: str, field: str | None = None, **headers: str) -> Response:
    """An error as RFC 9457 has it; on /v2 as the Open Inference Protocol does."""
    request_id = getattr(request.state, "request_id", None) or request_id_of(request.headers.get("x-request-id", ""))
    headers = {"x-request-id": request_id, **headers}
    if request.url.path == "/v2" or request.url.path.startswith("/v2/"):  # as that protocol's clients read it
        return Response(json.dumps({"error": detail}), status, headers, "application/json")
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field:
        content["field"] = field
    return Response(json.dumps(content), status, headers, PROBLEM)


async def _scorer_error(request: Request, error: ScorerError) -> Response:
    if error.status in (429, 503, 504):
        request.app.state.service.metrics.rejected.labels(error.title.replace(" ", "_")).inc()
    return problem(request, error.status, error.title, error.detail, error.field, **error.headers)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return problem(
        request, error.status_code, HTTPStatus(error.status_code).phrase.lower(), str(error.detail), **(error.headers or {})
    )


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    """The caller hung up: nobody reads this, but the counters do."""
    return Response(status_code=499)


async def _bug(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(request, 500, "internal error", "the scorer failed; its log says why")


class _Counted:
    """Pure ASGI: counts every call and its time, by route and status."""

    def __init__(self, inner, app: FastAPI) -> None:  # type: ignore[no-untyped-def]
        self.inner, self.app = inner, app

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        timer, code = StageTimer(), 500

        async def counted_send(message) -> None:  # type: ignore[no-untyped-def]
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self.inner(scope, receive, counted_send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            metrics: Metrics = self.app.state.service.metrics
            metrics.requests.labels(route, str(code), scope.get("state", {}).get("model", "")).inc()
            metrics.duration.labels(route).observe(timer.finish())


_LISTING = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": kind}}
    for name, kind, text in (
        ("limit", "integer", "Behaviours of an answer, 100 where it is absent."),
        ("after", "string", "The `next` of an answer: goes on where that one ended."),
    )
]
_SCORES = {
    "request_id": "r1", "model": "twin", "version": "20260131T120000Z", "scores": [0.031, 0.27],
    "degraded": [], "unknown_items": 0, "behaviours": 10000,
}  # fmt: skip
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "One probability per candidate, in order", "content": {"application/json": {"example": _SCORES}}},
    **{
        status: {"description": text, "content": {PROBLEM: {}}}
        for status, text in {
            400: "malformed JSON", 401: "no or wrong key", 404: "unknown model", 413: "body too large", 415: "not JSON",
            422: "invalid request", 429: "no free slot", 503: "no model is loaded", 504: "deadline exceeded",
        }.items()
    },
}  # fmt: skip
_EVENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"description": "All are stored", "content": {"application/json": {"example": {"accepted": 2, "duplicates": 0}}}},
    **{status: _RESPONSES[status] for status in (400, 401, 413, 415, 429)},
    422: {"description": "an event is invalid; nothing was written", "content": {PROBLEM: {}}},
    503: {"description": "the store did not acknowledge; send the call again", "content": {PROBLEM: {}}},
    504: {"description": "deadline exceeded; nothing was written", "content": {PROBLEM: {}}},
}
