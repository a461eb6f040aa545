"""Stage times and counters: one timer per request feeds header, histograms and deadline."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.caller import Caller
from service.errors import REJECTED, CallerGone, DeadlineExceeded, ScorerError
from store.events import Event, Written

Stage = Literal["queue", "request", "behaviours", "search", "attend", "scores"]
STAGES: tuple[Stage, ...] = ("queue", "request", "behaviours", "search", "attend", "scores")

# seconds; dense around the 30 ms target
BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 1.0)
# the same, and up to what an event waits for while nobody consumes
FRESHNESS_BUCKETS = (*BUCKETS, 2, 5, 10, 30, 60, 300, 600)

STORE_FAULTS = ("store_down", "store_error", "store_timeout")
DEGRADED = ("bad_record", "state_missing", *STORE_FAULTS, "table_stale")
RESULTS = ("ok", "refused", "failed")


class StageTimer:
    """Times of one request's stages. A stage ends where the next one begins, so they sum to the total."""

    def __init__(self, caller: Caller | None = None) -> None:
        """Begin with the queue. `caller`: who may hang up meanwhile; None = nobody."""
        self.started = self._entered = time.perf_counter()
        self.stage: Stage = "queue"
        self.seconds: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self.deadline = float("inf")  # on the clock of perf_counter
        self._given = 0.0  # seconds that the deadline was moved by
        self._caller = caller or Caller()

    def enter(self, stage: Stage) -> None:
        """Begin a stage.

        Raises:
            DeadlineExceeded: the time is up; the text names the stage in which it ended.
            CallerGone: nobody waits for the answer.
        """
        now = time.perf_counter()
        self.seconds[self.stage] += now - self._entered
        self._entered = now
        if now > self.deadline:
            allowed = (self.deadline - self.started - self._given) * 1000
            stage = self._stage_at(self.deadline)
            raise DeadlineExceeded(f"{stage}: {(now - self.started) * 1000:.1f} ms since arrival, limit {allowed:g} ms", stage)
        if self._caller.gone:
            raise CallerGone(f"{self.stage}: the caller hung up")
        self.stage = stage

    def _stage_at(self, moment: float) -> Stage:
        """Where the request was at a moment before now: a limit of its own is known only once it has waited and was read."""
        end = self.started
        for stage in STAGES:
            end += self.seconds[stage]
            if end >= moment:
                return stage
        return self.stage

    def allow(self, timeout_ms: float) -> None:
        """Set the deadline, counted from the request's arrival; it can only come nearer."""
        self.deadline = min(self.deadline, self.started + timeout_ms / 1000)

    def give_back(self) -> None:
        """Move the deadline by the time of this stage: a fault of the store used it, and that is never the caller's error."""
        given = time.perf_counter() - self._entered
        self.deadline += given
        self._given += given

    def finish(self) -> float:
        """End the last stage; seconds from arrival to now."""
        now = time.perf_counter()
        self.seconds[self.stage] += now - self._entered
        self._entered = now
        return now - self.started

    def header(self) -> str:
        """The value of Server-Timing, milliseconds."""
        parts = [f"{stage};dur={self.seconds[stage] * 1000:.3f}" for stage in STAGES]
        return ", ".join([*parts, f"total;dur={sum(self.seconds.values()) * 1000:.3f}"])


class EventMetrics:
    """What becomes of events, on whichever way they came in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("ctr_events", "Events that came in.", ["result"], registry=registry)
        self.other_category = Counter(
            "ctr_events_other_category", "Events that named another category than their item has.", registry=registry
        )
        self.freshness = Histogram(
            "ctr_event_freshness_seconds", "From arrival to visible in scores.", buckets=FRESHNESS_BUCKETS, registry=registry
        )
        self.lag = Histogram(
            "ctr_event_lag_seconds", "From an event's own time to visible in scores.",
            buckets=(0.1, 1, 10, 60, 600, 3600, 86400, 604800), registry=registry,
        )  # fmt: skip

    def count(self, written: Written, events: Sequence[Event], arrived: Sequence[float]) -> None:
        """Count events that the store has just acknowledged; `arrived`: Unix seconds of each call or message."""
        now = time.time()
        self.events.labels("accepted").inc(written.accepted)
        self.events.labels("duplicate").inc(written.duplicates)
        self.other_category.inc(written.other_category)
        for moment in arrived:
            self.freshness.observe(max(now - moment, 0))
        for event in events:
            self.lag.observe(max(now - event.ts, 0))


class ConsumerMetrics:
    """All metrics of one consumer, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self.events = EventMetrics(to)
        self.batch = Histogram(
            "ctr_stream_batch_messages", "Messages written together.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500), registry=to
        )
        self.retries = Counter("ctr_stream_retries", "Writes that were not acknowledged, and tried again.", registry=to)
        self.pending = Gauge("ctr_stream_pending", "Entries delivered and not acknowledged.", registry=to)
        self.waiting = Gauge("ctr_stream_waiting", "Entries not delivered yet.", registry=to)


class Metrics:
    """All metrics of one scorer, in a registry of its own.

    What a call leaves to be counted waits until somebody looks, or for a tenth of a second: an observation is six calls of
    Python, and a dozen of them in the middle of a request cost several times what they cost in a row.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._left: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._followed: list[tuple[Gauge, Callable[[], float]]] = []
        self._counting = threading.Lock()
        to = self.registry
        self.requests = Counter("ctr_requests", "Calls answered.", ["route", "code", "model", "version"], registry=to)
        self.duration = Histogram(
            "ctr_request_duration_seconds",
            "From arrival to answer; code: 2xx, 4xx, 5xx.",
            ["route", "code"],
            buckets=BUCKETS,
            registry=to,
        )
        self.stages = Histogram(
            "ctr_stage_duration_seconds", "Time in each stage of scoring.", ["stage"], buckets=BUCKETS, registry=to
        )
        self.candidates = Histogram(
            "ctr_candidates_per_request", "Candidates.", buckets=(1, 10, 50, 100, 200, 300, 500, 750, 1000), registry=to
        )
        self.behaviours = Histogram(
            "ctr_behaviours_per_request",
            "Behaviours searched.",
            buckets=(0, 10, 50, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5),
            registry=to,
        )
        self.degraded = Counter("ctr_degraded", "Answers given without something.", ["reason"], registry=to)
        self.rejected = Counter("ctr_rejected", "Calls refused.", ["reason"], registry=to)
        self.unknown_items = Counter("ctr_unknown_items", "Candidates without a row of the bundle.", registry=to)
        self.mean_score = Histogram(
            "ctr_mean_score", "Mean of a request's scores.", ["model"],
            buckets=(0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1), registry=to,
        )  # fmt: skip
        self.loop_lag = Histogram(
            "ctr_event_loop_lag_seconds", "By how much the event loop comes too late.", buckets=BUCKETS, registry=to
        )
        self.breaker = Gauge(
            "ctr_breaker_state", "1: the store is not asked, 0: it is.", registry=to, multiprocess_mode="livemax"
        )
        self.store_errors = Counter("ctr_store_errors", "Reads of behaviours that failed.", ["kind"], registry=to)
        self.store_roundtrip = Histogram(
            "ctr_store_roundtrip_seconds",
            "Time of a request's reads of behaviours, failed ones too.",
            buckets=BUCKETS,
            registry=to,
        )
        self.events = EventMetrics(to)
        self.states = Counter("ctr_state_reads", "How users' states were read, for models that keep one.", ["how"], registry=to)
        self.tail = Histogram(
            "ctr_tail_behaviours", "Behaviours after a user's snapshot.",
            buckets=(0, 8, 16, 32, 64, 100, 1e3, 1e4, 1e5), registry=to,
        )  # fmt: skip
        self.in_flight = Gauge(
            "ctr_inflight_requests", "Calls of scoring working or waiting.", registry=to, multiprocess_mode="livesum"
        )
        self.model_info = Gauge(
            "ctr_model_info",
            "1 for each model served.",
            ["model", "version", "provider"],
            registry=to,
            multiprocess_mode="livemax",
        )
        self.model_label = Gauge(
            "ctr_model_label_info", "1 for the version that has a label.", ["model", "label", "version"],
            registry=to, multiprocess_mode="livemax",
        )  # fmt: skip
        self.shadow = Counter("ctr_shadow", "Answers offered to a shadow version.", ["model", "result"], registry=to)
        self.shadow_difference = Histogram(
            "ctr_shadow_score_difference", "Mean distance of a shadow's scores from the answer's.", ["model"],
            buckets=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1), registry=to,
        )  # fmt: skip
        self.shadow_ranks = Histogram(  # not rho itself: a histogram of what may be negative has no sum
            "ctr_shadow_rank_distance", "1 - Spearman's rho of a shadow's scores and the answer's.", ["model"],
            buckets=(1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2), registry=to,
        )  # fmt: skip
        self.request_log = Counter("ctr_request_log", "Requests of the sample that is logged.", ["result"], registry=to)
        self.model_loads = Counter("ctr_model_load", "Bundles opened.", ["result"], registry=to)
        self.model_load = Histogram(
            "ctr_model_load_seconds", "Time to open, verify and warm a bundle.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120), registry=to,
        )  # fmt: skip
        self.table_age = Gauge(
            "ctr_table_age_seconds",
            "Since the item tables in use were published.",
            ["model"],
            registry=to,
            multiprocess_mode="livemostrecent",
        )
        self.table_max_age = Gauge(
            "ctr_table_max_age_seconds", "Older item tables are stale; 0 = none are.", registry=to, multiprocess_mode="livemax"
        )
        self.table_version = Gauge(
            "ctr_table_version_info", "1 for the tables in use.", ["model", "version"], registry=to, multiprocess_mode="livemax"
        )
        self.table_hits = Counter("ctr_table_cache_hits", "Blocks of tables that were in the cache.", registry=to)
        self.table_misses = Counter("ctr_table_cache_misses", "Blocks that were read from the store.", registry=to)
        self.table_cache_bytes = Gauge(
            "ctr_table_cache_bytes", "Bytes of blocks in the cache.", registry=to, multiprocess_mode="livesum"
        )
        self.table_refreshes = Counter("ctr_table_refresh", "Published versions looked at.", ["result"], registry=to)
        for counter, words in (
            (self.degraded, DEGRADED), (self.store_errors, STORE_FAULTS),
            (self.model_loads, RESULTS[:2]), (self.table_refreshes, RESULTS),
            (self.rejected, [kind.word() for kind in ScorerError.__subclasses__() if kind.status in REJECTED]),
        ):  # fmt: skip
            for word in words:
                counter.labels(word)  # at 0 from the start: the first one that is counted would else be no increase

    def later(self, count: Callable[..., object], *arguments: object) -> None:
        """Leave `count(*arguments)` to be called with the next ones; from any thread."""
        self._left.append((count, arguments))

    def follow(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Set a gauge to `value()` whenever what was left is counted."""
        self._followed.append((gauge, value))

    def count(self, at_most: int | None = None) -> bool:
        """Count what was left, oldest first; whether there is more. None: all of it."""
        with self._counting:  # who looks sees what another thread had begun to count
            for _ in range(len(self._left) if at_most is None else min(at_most, len(self._left))):
                count, arguments = self._left.popleft()
                count(*arguments)
            for gauge, value in self._followed:
                gauge.set(value())
        return bool(self._left)
