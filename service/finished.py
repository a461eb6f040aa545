"""A call of scoring that has ended, as those see it who look on: the log of slow calls, the traces."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.types import Scope

from service.errors import ScorerError
from service.metrics import Stage, StageTimer
from service.request import ScoreRequest
from service.scores import ScoreResponse


@dataclass(frozen=True, slots=True)
class Finished:
    """What was asked, what became of it, and where the time went."""

    route: str  # as it is written in the code: without a model's name
    headers: Mapping[str, str]  # of the call
    status: int
    error: str  # the title; "" = none
    request_id: str
    asked: ScoreRequest | None  # None: the body was not read, or not understood
    answered: ScoreResponse | None  # None: it failed
    ended: float  # Unix seconds
    stages: Mapping[Stage, float]  # seconds

    @property
    def total_s(self) -> float:
        """From arrival to end."""
        return sum(self.stages.values())


Watcher = Callable[[Finished], None]


def state_of(scope: Scope) -> dict[str, Any]:
    """What is known of a call so far: `request_id`, `asked`, `answered`. The framework's `state` is around it."""
    known: dict[str, Any] = scope.setdefault("state", {})
    return known


@contextmanager
def watched(http: Request, timer: StageTimer, watchers: Sequence[Watcher]) -> Iterator[None]:
    """Tell the watchers when the block has ended, well or not."""
    status, error = 200, ""
    try:
        yield
    except ScorerError as fault:
        status, error = fault.status, fault.title
        raise
    except Exception:
        status, error = 500, "internal error"
        raise
    finally:
        if watchers:
            if error:
                timer.finish()
            state, route = state_of(http.scope), http.scope.get("route")
            finished = Finished(
                http.scope["path"] if route is None else route.path, http.headers, status, error,
                state.get("request_id", ""), state.get("asked"), state.get("answered"), time.time(), timer.seconds,
            )  # fmt: skip
            for watcher in watchers:
                watcher(finished)
