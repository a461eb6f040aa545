"""A scorer that keeps a little of every request and gets slower as it runs: what a soak has to find out."""

import time
from typing import Any

import service.calls
import service.pipeline
from service.__main__ import main

KEPT_BYTES = 100_000  # of a request
SLOWER = 0.5e-3  # seconds of a request, for each that it has run

_kept: list[bytes] = []
_started = time.perf_counter()


def _leaking(*arguments: Any) -> Any:
    _kept.append(b"x" * KEPT_BYTES)
    time.sleep((time.perf_counter() - _started) * SLOWER)
    return service.pipeline.score(*arguments)


if __name__ == "__main__":
    service.calls.score = _leaking  # type: ignore[attr-defined,assignment]
    main()
