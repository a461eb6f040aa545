"""Calls of one kind that work or wait, at most so many: what does not fit is told to come again, not queued."""

from itertools import islice
from time import perf_counter
from types import TracebackType

from service.errors import Overloaded

WEIGHT = 0.1  # of the newest call in the mean of their times, when there are more than a few


class Queue:
    """How long a call would wait for one of some threads: from how long the last ones took in theirs. Nobody queues behind who
    waits for twice the limit already: then a thread is held up."""

    def __init__(self, threads: int, limit_s: float) -> None:
        self._threads, self._limit_s = threads, limit_s
        self._mean_s, self._answered = 0.0, 0
        self._handed_at: dict[Handed, float] = {}  # of each call with the threads, the first of them first

    def took(self, seconds: float) -> None:
        """A call was answered, after so long in its thread."""
        self._answered += 1
        self._mean_s += max(WEIGHT, 1 / self._answered) * (seconds - self._mean_s)  # the first is no mean with nothing

    def handed(self) -> "Handed":
        """Count a call as one of the threads' while the block runs: whole, not on its way here still.

        Raises:
            Overloaded: its turn would come too late.
        """
        now, calls = perf_counter(), len(self._handed_at)
        first_waits_since = next(islice(self._handed_at.values(), self._threads, None), now)
        wait_s = max((calls - self._threads + 1) / self._threads * self._mean_s, (now - first_waits_since) / 2)
        if wait_s > self._limit_s:
            raise Overloaded(f"queue: a wait of about {wait_s * 1000:.0f} ms, limit {self._limit_s * 1000:g} ms")
        call = Handed(self._handed_at)
        self._handed_at[call] = now
        return call


class Handed:
    """One call of a queue: with the threads until the block ends. No generator, which takes twice as long."""

    def __init__(self, calls: "dict[Handed, float]") -> None:
        self._calls = calls

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._calls[self]


class Slots:
    """A count with a limit, for one event loop."""

    def __init__(self, limit: int) -> None:
        self.taken, self._limit = 0, limit

    def take(self) -> "Slots":
        """Hold a slot until the block ends.

        Raises:
            Overloaded: none is free.
        """
        if self.taken >= self._limit:
            raise Overloaded(f"in flight: {self.taken}, limit {self._limit}")
        self.taken += 1
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.taken -= 1
