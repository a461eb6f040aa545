"""Calls of one kind that work or wait, at most so many: what does not fit is told to come again, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from time import perf_counter

from prometheus_client import Gauge

from service.errors import Overloaded

WEIGHT = 0.1  # of the newest call in the mean of their times, when there are more than a few


class Queue:
    """How long a call would wait for one of some threads: from how long the last ones took in theirs. Nobody queues behind who
    waits for twice the limit already: then a thread is held up."""

    def __init__(self, threads: int, limit_s: float) -> None:
        self._threads, self._limit_s = threads, limit_s
        self._mean_s, self._answered = 0.0, 0
        self._handed_at: dict[object, float] = {}  # of each call with the threads, the first of them first

    def took(self, seconds: float) -> None:
        """A call was answered, after so long in its thread."""
        self._answered += 1
        self._mean_s += max(WEIGHT, 1 / self._answered) * (seconds - self._mean_s)  # the first is no mean with nothing

    @contextmanager
    def handed(self) -> Iterator[None]:
        """Count a call as one of the threads' while the block runs: whole, not on its way here still.

        Raises:
            Overloaded: its turn would come too late.
        """
        now, calls = perf_counter(), len(self._handed_at)
        first_waits_since = next(islice(self._handed_at.values(), self._threads, None), now)
        wait_s = max((calls - self._threads + 1) / self._threads * self._mean_s, (now - first_waits_since) / 2)
        if wait_s > self._limit_s:
            raise Overloaded(f"queue: a wait of about {wait_s * 1000:.0f} ms, limit {self._limit_s * 1000:g} ms")
        call = object()
        self._handed_at[call] = now
        try:
            yield
        finally:
            del self._handed_at[call]


class Slots:
    """A count with a limit, for one event loop."""

    def __init__(self, limit: int, gauge: Gauge | None = None) -> None:
        self.taken, self._limit, self._gauge = 0, limit, gauge

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a slot while the block runs.

        Raises:
            Overloaded: none is free.
        """
        if self.taken >= self._limit:
            raise Overloaded(f"in flight: {self.taken}, limit {self._limit}")
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, calls: int) -> None:
        self.taken += calls
        if self._gauge is not None:
            self._gauge.set(self.taken)
