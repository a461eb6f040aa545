"""One point of a speed measurement: a rate offered to a running scorer, and what came of it."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import orjson
from numpy.typing import NDArray

from loadtest.measured_on import reference_ms
from loadtest.open_loop import Job, Outcome, offer_apart
from loadtest.scorer_client import ScorerClient
from loadtest.served.bench_setup import Serving
from loadtest.service_process import cpu_s, service_process
from service.metrics import STAGES

LOG = Path("runs/bench/scorer.log")
TIMED = (*STAGES, "total")
NO_GLUE = ("behaviours", "search", "attend")
SETTLED_S = 10  # for what an overload left behind: a breaker, a queue


@dataclass(frozen=True)
class RunningScorer:
    """A scorer in a process of its own."""

    pid: int
    port: int


@dataclass(frozen=True)
class Length:
    """How long a point is: `most` requests or `seconds`, whichever comes first, after a warm-up."""

    seconds: float = 60
    most: int = 2_000
    warm_up_s: float = 3


@dataclass(frozen=True)
class Point:
    """What was measured at one rate. Times in ms; `errors` are in the percentiles, slower than any limit."""

    n: int
    errors: int
    kinds: dict[str, int]  # of errors: a status, "degraded", "no answer"
    p50_ms: float
    p99_ms: float
    cpu_ms: float  # of the scorer's process, per request
    stages: dict[str, float]  # mean of each, in order: they sum to `total_ms`
    stage_medians: dict[str, float]
    total_ms: float  # the server's own, mean
    outside_ms: float  # median latency beyond the server's own time: HTTP, kernel, generator
    glue_ms: float  # median latency beyond the stages `behaviours`, `search` and `attend`
    unaccounted_ms: float  # largest difference of an answer's total and the sum of its stages
    generator_cpu: float  # cores
    late_p99_ms: float  # the generator's own part: from intended to real sending
    reference_ms: float  # of work that never changes, just before: how fast the machine was


@contextmanager
def running_scorer(serving: Serving, bundles: Path, redis_url: str) -> Iterator[RunningScorer]:
    """A scorer of some bundles over a running store."""
    settings = {"CTR_BUNDLES": str(bundles), "CTR_REDIS_URL": redis_url, **serving.settings}
    with service_process("", "/v2/health/ready", LOG, **settings) as (process, port):
        yield RunningScorer(process.pid, port)


def check(scorer: RunningScorer, body: bytes) -> int:
    """Ask until the answer is whole, and say how many behaviours were searched; 0 where that takes longer than the scorer allows.

    Raises:
        ValueError: the answer is still degraded after 10 s, or refused: a measurement would be of something else.
    """
    client, request = ScorerClient(f"http://127.0.0.1:{scorer.port}"), orjson.loads(body)
    end = time.monotonic() + SETTLED_S
    while True:
        try:
            answer, _ = client.score(request)
        except HTTPError as error:
            said, timed_out = f"{error}: {error.read()[:300]!r}", error.code == HTTPStatus.GATEWAY_TIMEOUT
        else:
            if not answer["degraded"]:
                return int(answer["behaviours"])
            said, timed_out = f"degraded {answer['degraded']}", False
        if time.monotonic() > end:
            if timed_out:
                return 0
            raise ValueError(f"{request['model']}, user {request['user_id']}: {said}; see {LOG}")
        time.sleep(0.5)


def measure(scorer: RunningScorer, requests: Sequence[bytes], per_s: float, length: Length) -> Point:
    """Warm up, then offer requests at a constant rate."""
    reference = reference_ms()
    count = max(int(min(length.seconds * per_s, length.most)), 1)
    warm = Job(scorer.port, requests, per_s, max(int(length.warm_up_s * per_s), 1))
    offer_apart(warm)
    before = cpu_s(scorer.pid)
    outcome = offer_apart(Job(scorer.port, requests, per_s, count))
    used = cpu_s(scorer.pid) - before
    times = stage_times(outcome.timing)  # [count, 7], NaN where there is none
    timed = times[~np.isnan(times[:, -1])]
    timed = timed if len(timed) else times[:1]
    p50, p99 = np.percentile(outcome.latency_ms, (50, 99), method="higher")
    means, medians = (dict(zip(STAGES, of(timed[:, :-1], axis=0).round(4).tolist(), strict=True)) for of in (np.mean, np.median))
    return Point(
        n=count, errors=int(outcome.wrong.sum()), kinds=_kinds(outcome), p50_ms=round(float(p50), 3), p99_ms=round(float(p99), 3),
        cpu_ms=round(used * 1000 / count, 3), stages=means, stage_medians=medians,
        total_ms=round(float(timed[:, -1].mean()), 4),
        outside_ms=median_beyond(outcome.answer_ms, times, ["total"]), glue_ms=median_beyond(outcome.answer_ms, times, NO_GLUE),
        unaccounted_ms=round(float(np.abs(timed[:, :-1].sum(axis=1) - timed[:, -1]).max()), 4),
        generator_cpu=round(outcome.cpu_s * per_s / count, 3),
        late_p99_ms=round(float(np.nanpercentile(outcome.late_ms, 99)), 3), reference_ms=round(reference, 2),
    )  # fmt: skip


def median_beyond(answer_ms: NDArray[np.float64], times: NDArray[np.float64], parts: Sequence[str]) -> float:
    """Median of what answers took beside these parts of their `stage_times`; NaN where none was timed."""
    beyond = answer_ms - times[:, [TIMED.index(part) for part in parts]].sum(axis=1)
    return np.nan if np.isnan(beyond).all() else round(float(np.nanmedian(beyond)), 3)


def _kinds(outcome: Outcome) -> dict[str, int]:
    refused = Counter(outcome.status[outcome.status != 200].tolist())
    found = {str(status) if status else "no answer": number for status, number in refused.items()}
    degraded = int(outcome.degraded.sum())
    return found | ({"degraded": degraded} if degraded else {})


def stage_times(headers: Sequence[str]) -> NDArray[np.float64]:
    """Milliseconds [answers, 6 stages and the total] of Server-Timing headers; NaN where there is none."""
    times = np.full((len(headers), len(TIMED)), np.nan)
    for i, header in enumerate(headers):
        if header:
            parts = dict(part.split(";dur=") for part in header.split(", "))
            times[i] = [float(parts[name]) for name in TIMED]
    return times
