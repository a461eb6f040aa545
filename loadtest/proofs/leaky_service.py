"""A scorer that keeps a little of every request and is a little slower with each: what a soak has to find out."""

import time
from typing import Any

import service.calls
import service.pipeline
from service.__main__ import main

KEPT_BYTES = 100_000  # of a request
SLOWER_S = 3e-6  # with each request

_score = service.pipeline.score
_kept: list[bytes] = []


def _leaking(*arguments: Any) -> Any:
    _kept.append(b"x" * KEPT_BYTES)
    time.sleep(len(_kept) * SLOWER_S)
    return _score(*arguments)


if __name__ == "__main__":
    service.calls.score = _leaking  # type: ignore[attr-defined,assignment]
    main()
