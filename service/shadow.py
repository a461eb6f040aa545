"""A version that only looks on: scores what was just answered, beside the requests, and says how far its scores are apart.

One request at a time, in a thread of its own; while it is busy others pass it by. It is never waited for.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from service.errors import ScorerError
from service.metrics import Metrics
from service.request import ScoreRequest
from service.scores import ScoreResponse
from store.types import Floats

log = logging.getLogger("longtrail")


class Scores(Protocol):
    """Scores a request by the model and version that it names."""

    def __call__(self, request: ScoreRequest) -> ScoreResponse: ...


class Shadow:
    """Scores a second time, and compares."""

    def __init__(self, score: Scores, metrics: Metrics) -> None:
        self._score, self._metrics = score, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._busy = False

    def offer(self, request: ScoreRequest, answered: ScoreResponse, version: str) -> None:
        """Have `version` score what another one answered, unless it is busy."""
        if self._busy:
            self._metrics.shadow.labels(answered.model, "passed_by").inc()
            return
        self._busy = True  # two threads that both saw False queue one request more: no harm
        self._thread.submit(self._compare, request, answered, version)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compare(self, request: ScoreRequest, answered: ScoreResponse, version: str) -> None:
        model, metrics = answered.model, self._metrics
        try:
            other = self._score(request.model_copy(update={"model": f"{model}:{version}", "explain": 0, "timeout_ms": None}))
            if other.degraded != answered.degraded:  # then it is the store that they differ by
                metrics.shadow.labels(model, "degraded").inc()
                return
            metrics.shadow_difference.labels(model).observe(float(np.abs(other.scores - answered.scores).mean()))
            if (alike := rank_correlation(answered.scores, other.scores)) is not None:
                metrics.shadow_ranks.labels(model).observe(1 - alike)
            metrics.shadow.labels(model, "compared").inc()
        except ScorerError as error:  # it went away meanwhile, say
            metrics.shadow.labels(model, "failed").inc()
            log.debug("shadow %s:%s: %s", model, version, error.detail)
        except Exception:  # the edge: nothing of it may reach an answer
            metrics.shadow.labels(model, "failed").inc()
            log.exception("shadow %s:%s failed", model, version)
        finally:
            self._busy = False


def rank_correlation(first: Floats, second: Floats) -> float | None:
    """Spearman's rho of two scores of the same candidates, float32 [C]; ties share a rank. None: one of them has no order."""
    one, other = _ranks(first), _ranks(second)
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size > 0 else None


def _ranks(values: Floats) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The mean rank of each value."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean: np.ndarray[tuple[int], np.dtype[np.float64]] = ((last - count) + (last - 1)) / 2
    return mean[place]
