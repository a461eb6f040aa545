"""A circuit breaker: after a few failures in a row, one caller at a time asks again, the others go without.

A store that does not answer would otherwise hold every request for its whole time limit. Ours, and not
a library's: those at hand hold a lock during the call, which would put all requests in one line.
"""

import threading
import time

FAILURES = 3  # in a row, before it opens
PAUSE_S = 0.25  # between two probes while it is open


class Breaker:
    """Shared by the request threads."""

    def __init__(self, failures: int = FAILURES, pause_s: float = PAUSE_S) -> None:
        self._limit, self._pause_s = failures, pause_s
        self._lock = threading.Lock()
        self._failures = 0
        self._probing = False
        self._next_probe = 0.0

    @property
    def open(self) -> bool:
        """Whether callers are turned away."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether this caller may try; one that may must report `succeeded` or `failed`."""
        with self._lock:
            if not self.open:
                return True
            if self._probing or time.monotonic() < self._next_probe:
                return False
            self._probing = True
            return True

    def succeeded(self) -> None:
        """The store answered, if only an error of its own: it is there."""
        with self._lock:
            self._failures, self._probing = 0, False

    def failed(self, unreachable: bool) -> None:
        """No answer in time; `unreachable`: not even a connection, which opens the breaker at once."""
        with self._lock:
            self._failures = self._limit if unreachable else self._failures + 1
            self._probing = False
            self._next_probe = time.monotonic() + self._pause_s
