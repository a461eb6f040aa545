"""Calls of one kind that work or wait, at most so many: what does not fit is told to come again, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.errors import Overloaded

WEIGHT = 0.1  # of the newest call in the mean of their times


class Queue:
    """How long a call would wait for one of some threads, from how long the last ones took in theirs."""

    def __init__(self, threads: int, limit_s: float) -> None:
        self._threads, self._limit_s, self._mean_s, self._handed = threads, limit_s, 0.0, 0

    def took(self, seconds: float) -> None:
        """A call was answered, after so long in its thread."""
        self._mean_s += WEIGHT * (seconds - self._mean_s)

    @contextmanager
    def handed(self) -> Iterator[None]:
        """Count a call as one of the threads' while the block runs: whole, not on its way here still.

        Raises:
            Overloaded: its turn would come too late.
        """
        wait_s = (self._handed - self._threads + 1) / self._threads * self._mean_s
        if wait_s > self._limit_s:
            raise Overloaded(f"queue: a wait of about {wait_s * 1000:.0f} ms, limit {self._limit_s * 1000:g} ms")
        self._handed += 1
        try:
            yield
        finally:
            self._handed -= 1


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
