"""Calls of one kind that work or wait, at most so many: what does not fit is told to come again, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from service.errors import Overloaded


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
