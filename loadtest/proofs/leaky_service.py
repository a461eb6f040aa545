"""A scorer that keeps LEAKED_BYTES of every request, and takes SLOWER_S longer for each second since its start: what a soak has
to find out."""

import os
import time
from typing import Any

import service.calls
import service.pipeline
from service.__main__ import main

KEPT_BYTES, SLOWER_S = int(os.environ["LEAKED_BYTES"]), float(os.environ["SLOWER_S"])

_kept: list[bytes] = []
_started = time.perf_counter()


def _leaking(*arguments: Any) -> Any:
    _kept.append(b"x" * KEPT_BYTES)
    time.sleep((time.perf_counter() - _started) * SLOWER_S)
    return service.pipeline.score(*arguments)


if __name__ == "__main__":
    service.calls.score = _leaking  # type: ignore[attr-defined,assignment]
    main()
