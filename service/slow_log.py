"""One JSON line on standard output for each call of scoring that was slow or failed, with the time of every stage.

Who the user was is a keyed hash: lines of one user can be told from those of another, which is what one asks of slow calls. The
key is drawn when the process starts and kept nowhere, so nobody can compute the hash of an id to look for.
"""

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from service.finished import Finished

LINES_PER_S = 20  # at most: when everything is slow, writing of it must not be what is slow


class SlowLog:
    """Writes a line for what took longer than `slow_ms` (0: nothing is slow), and for every answer of 5xx."""

    def __init__(self, slow_ms: float, out: TextIO | None = None) -> None:
        self._slow_s = slow_ms / 1000 if slow_ms else float("inf")
        self._out, self._key = out or sys.stdout, os.urandom(16)
        self._second, self._written, self._left_out = 0, 0, 0

    def __call__(self, call: Finished) -> None:
        """Look at a call that has ended. Cost: 0.2 us for a fast one, 30 us for a line."""
        if call.status >= 500 or call.total_s > self._slow_s:
            if (now := int(time.monotonic())) != self._second:
                self._second, self._written = now, 0
            if self._written == LINES_PER_S:
                self._left_out += 1
                return
            self._written += 1
            with suppress(OSError):  # nobody reads it any more: that is no fault of the call
                self._out.write(json.dumps(self._line(call)) + "\n")
                self._out.flush()

    def _line(self, call: Finished) -> dict[str, object]:
        asked, answered = call.asked, call.answered
        left_out, self._left_out = self._left_out, 0
        return {
            "time": datetime.fromtimestamp(call.ended, UTC).isoformat(timespec="milliseconds"),
            "what": "failed" if call.error else "slow", "route": call.route, "status": call.status, "error": call.error or None,
            "request_id": call.request_id or None, "model": answered.model if answered else asked and asked.model,
            "version": answered and answered.version, "user": asked and self._hash(asked.user_id),
            "candidates": asked and len(asked.item_ids), "behaviours": answered and answered.behaviours,
            "degraded": answered and answered.degraded,
            "ms": {stage: round(seconds * 1000, 3) for stage, seconds in [*call.stages.items(), ("total", call.total_s)]},
            "left_out": left_out,
        }  # fmt: skip

    def _hash(self, user_id: str) -> str:
        return hashlib.blake2b(user_id.encode(), key=self._key, digest_size=8).hexdigest()
