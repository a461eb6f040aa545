"""Errors as answers: problem+json (RFC 9457), and on /v2 as that protocol's clients read them."""

import json
import logging
import random
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.errors import REJECTED, NoMemory, ScorerError

log = logging.getLogger("longtrail")

PROBLEM = "application/problem+json"
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def add_problems(app: FastAPI) -> None:
    """Answer every error of a call, ours, the framework's and bugs."""
    app.add_exception_handler(ScorerError, _scorer_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, _gone)  # type: ignore[arg-type]
    app.add_exception_handler(MemoryError, _no_memory)
    app.add_exception_handler(Exception, _bug)


async def answered(endpoint: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """What an endpoint answers, its errors as `add_problems` has them."""
    try:
        return await endpoint(request)
    except ScorerError as error:
        return await _scorer_error(request, error)
    except MemoryError as error:
        return await _no_memory(request, error)
    except ClientDisconnect as error:
        return await _gone(request, error)
    except Exception as error:  # the edge
        return await _bug(request, error)


def request_id_of(given: str) -> str:
    """The caller's id if it can stand in a header, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"  # no secret


def problem(request: Request, status: int, title: str, detail: str, field: str | None = None, **headers: str) -> Response:
    """An error as its caller's protocol has it."""
    request_id = getattr(request.state, "request_id", None) or request_id_of(request.headers.get("x-request-id", ""))
    headers = {"x-request-id": request_id, **headers}
    if request.url.path == "/v2" or request.url.path.startswith("/v2/"):
        return Response(json.dumps({"error": detail}), status, headers, "application/json")
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field:
        content["field"] = field
    return Response(json.dumps(content), status, headers, PROBLEM)


async def _scorer_error(request: Request, error: ScorerError) -> Response:
    if error.status in REJECTED:
        request.app.state.service.metrics.rejected.labels(error.word()).inc()
    return problem(request, error.status, error.title, error.detail, error.field, **error.headers)


async def _no_memory(request: Request, error: Exception) -> Response:
    return await _scorer_error(request, NoMemory(f"not enough memory for this call ({str(error) or 'none left'})"))


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
