"""The HTTP side: routes and what stands around every call. `create_app(settings)` reads no environment."""

import asyncio
import gc
import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from service import admin, ui, v2_routes
from service.access import admin_of, service_of
from service.application import Application
from service.calls import NativeWire, Service
from service.descriptions import (
    BEHAVIOURS_RESPONSES,
    DELETE_RESPONSES,
    EVENT_RESPONSES,
    LISTING,
    SCORE_RESPONSES,
    body_of,
    describe,
)
from service.drain import drained_at_sigterm
from service.errors import InvalidRequest
from service.follower import Follower
from service.loop_lag import lag_observed
from service.problems import add_problems
from service.request import ScoreRequest
from service.sent_events import Events
from service.settings import Settings
from service.version import VERSION

log = logging.getLogger("longtrail")

TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}  # FastAPI's own: it would ask with every call


def create_app(
    settings: Settings, redis_url: str, at_start: Mapping[str, str] | None = None, listener: socket.socket | None = None
) -> FastAPI:
    """The application. Bundles are loaded and warmed when it starts (`at_start`: see `Bundles`); the store may come later.
    `listener`: where it is served, if no other process is."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await asyncio.get_running_loop().run_in_executor(None, Service, settings, redis_url, at_start)
        app.state.service = service
        bundles = service.bundles
        log.info("serving %s of %s", ", ".join(one.bundle.name for one in bundles.all) or "no model", bundles.data or "no data")
        follower = Follower(bundles, settings.bundles_poll_s)
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not walk it
        with drained_at_sigterm(service, settings.drain_ms / 1000, listener):
            async with lag_observed(service.metrics):
                yield
        follower.close()
        service.close()

    app = Application(
        title="longtrail", version=VERSION, lifespan=lifespan, docs_url=None, redoc_url=None,
        swagger_ui_oauth2_redirect_url=None, telemetry=TELEMETRY,
        summary="Click probabilities for one user and many candidate items, from lifelong behaviours.",
    )  # fmt: skip
    add_problems(app)

    @app.post(
        "/score", openapi_extra={"requestBody": body_of(ScoreRequest)}, summary="Score one user's candidates",
        responses=SCORE_RESPONSES,
    )  # fmt: skip
    async def score_route(request: Request) -> Response:
        return await service_of(request).score(request, NativeWire())

    @app.post(
        "/events", openapi_extra={"requestBody": body_of(Events)}, summary="Put behaviours into users' trees", status_code=202,
        responses=EVENT_RESPONSES,
    )  # fmt: skip
    async def events_route(request: Request) -> Response:
        return await service_of(request).events(request)

    app.call_straight(score_route, events_route)

    @app.get(
        "/users/{user_id:path}/behaviours",
        openapi_extra={"parameters": LISTING},
        summary="A user's tree, newest behaviours first",
        responses=BEHAVIOURS_RESPONSES,
    )
    async def behaviours_route(user_id: str, request: Request) -> Response:
        service = service_of(request)
        limit = request.query_params.get("limit", "100")
        if not re.fullmatch(r"-?[0-9]{1,9}", limit):
            raise InvalidRequest(f"limit: {limit!r}, a number is needed", "limit")
        return await service.of_store(service.users.behaviours, user_id, int(limit), request.query_params.get("after", ""))

    @app.delete("/users/{user_id:path}", summary="Remove a user's tree and every state (admin key)", responses=DELETE_RESPONSES)
    async def delete_route(user_id: str, request: Request) -> Response:
        service = admin_of(request)
        return await service.of_store(service.users.delete, user_id)

    app.include_router(v2_routes.router)
    app.include_router(admin.router)
    if settings.ui == "on":
        app.include_router(ui.router)

    # FastAPI's own page loads its parts from other hosts; these are a package's
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="openapi.json", title="longtrail", swagger_ui_parameters={"validatorUrl": None},
            swagger_js_url="swagger/swagger-ui-bundle.js", swagger_css_url="swagger/swagger-ui.css",
            swagger_favicon_url="swagger/favicon-32x32.png",
        )  # fmt: skip

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    def metrics() -> Response:  # in a thread: of several processes it reads files, and no call should wait for that
        return Response(app.state.service.exposition(), media_type=CONTENT_TYPE_LATEST)

    describe(app)
    return app
