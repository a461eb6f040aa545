"""FastAPI, with every call counted, and a way past its layers for those that have no use for them."""

import time
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from service.finished import state_of
from service.metrics import Metrics
from service.problems import answered
from service.scores import ScoreResponse

Endpoint = Callable[[Request], Awaitable[Response]]


class Application(FastAPI):
    """Counts calls and their time, by route and status; while the scorer is about to end, asks callers to connect anew.

    Calls of the routes that `call_straight` names come before the framework's layers: those read parameters, look for a
    handler of errors and limit bodies, and the endpoints do all of it themselves.
    """

    _straight: dict[tuple[str, str], tuple[APIRoute, Endpoint]]

    def call_straight(self, *endpoints: Endpoint) -> None:
        """Call these endpoints, which take nothing but a request, by method and path alone."""
        routes = [route for route in self.router.routes if isinstance(route, APIRoute) and route.endpoint in endpoints]
        self._straight = {(method, route.path): (route, route.endpoint) for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        started, code = time.perf_counter(), 500
        try:
            if (found := self._straight.get((scope["method"], scope["path"]))) is None:
                code = await self._through_all_layers(scope, receive, send)
            else:
                scope["app"], (scope["route"], endpoint) = self, found
                request = Request(scope, receive, send)
                response = await answered(endpoint, request)
                code = response.status_code
                if self.state.service.draining:
                    response.headers["connection"] = "close"
                await response(scope, receive, send)
        finally:
            metrics: Metrics = self.state.service.metrics
            route = getattr(scope.get("route"), "path", "other")
            metrics.later(_count, metrics, route, code, state_of(scope).get("answered"), time.perf_counter() - started)

    async def _through_all_layers(self, scope: Scope, receive: Receive, send: Send) -> int:
        """The status that was answered."""
        code = 500

        async def noted_send(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                if self.state.service.draining:
                    message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await super().__call__(scope, receive, noted_send)
        return code


def _count(metrics: Metrics, route: str, code: int, answered: ScoreResponse | None, seconds: float) -> None:
    model, version = (answered.model, answered.version) if answered else ("", "")
    metrics.requests.labels(route, str(code), model, version).inc()
    metrics.duration.labels(route, f"{code // 100}xx").observe(seconds)
