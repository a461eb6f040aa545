"""A sample of what was asked and answered, as Parquet in the form of own data: for the next training, once labels are joined.

A row a candidate: user_id, item_id, category, ts and the context given, and beside them columns that training does not read:
`logged_request_id`, `logged_model`, `logged_version`, `logged_score`. Clicks are joined by request id and item as `label`. Files
are whole when they have their name. The log is never in the way: what cannot be written in time is dropped and counted.
"""

import logging
import os
import queue
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.bundles import Bundles
from service.errors import ScorerError
from service.metrics import Metrics
from service.request import ScoreRequest
from service.scores import ScoreResponse

log = logging.getLogger("longtrail")

WAITING = 1_000  # requests at most that wait to be written
ROWS, SECONDS = 200_000, 60.0  # of a file: whichever comes first
COLUMNS = ("user_id", "item_id", "category", "ts", "logged_request_id", "logged_model", "logged_version", "logged_score")


@dataclass(frozen=True)
class Logged:
    """One request and its answer."""

    request: ScoreRequest
    response: ScoreResponse
    request_id: str
    ts: int


class RequestLog:
    """Writes a share of the requests into a folder."""

    def __init__(self, folder: Path, share: float, bundles: Bundles, metrics: Metrics) -> None:
        """Start.

        Raises:
            OSError: the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._share, self._bundles, self._metrics = folder, share, bundles, metrics
        self._waiting: queue.Queue[Logged | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def offer(self, request: ScoreRequest, response: ScoreResponse, request_id: str) -> None:
        """Log a request, if it is in the sample. Cost: less than a microsecond."""
        if random.random() >= self._share:
            return
        ts = int(time.time()) if request.at is None else request.at
        try:
            self._waiting.put_nowait(Logged(request, response, request_id, ts))
        except queue.Full:
            self._metrics.request_log.labels("dropped").inc()

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        rows: dict[str, list[Any]] = {}
        since, ended = time.monotonic(), False
        while not ended:
            try:
                logged = self._waiting.get(timeout=max(since + SECONDS - time.monotonic(), 0.01))
            except queue.Empty:
                logged = None
            else:
                ended = logged is None
            if logged is not None:
                self._add(rows, logged)
            count = len(rows.get("user_id", ()))
            if count and (ended or count >= ROWS or time.monotonic() - since >= SECONDS):
                self._write(rows)
                rows = {}
            if not rows:
                since = time.monotonic()

    def _add(self, rows: dict[str, list[Any]], logged: Logged) -> None:
        request, response = logged.request, logged.response
        try:
            registry = self._bundles.get(f"{response.model}:{response.version}").bundle.registry
        except ScorerError:  # it went away meanwhile
            self._metrics.request_log.labels("dropped").inc()
            return
        names = [None, None, *registry.category_names]
        count = len(request.item_ids)
        category = [names[row] for row in registry.candidates(request.item_ids).category.tolist()]
        before = len(rows.get("user_id", ()))
        values: dict[str, list[Any]] = dict(zip(COLUMNS, (
            [request.user_id] * count, request.item_ids, category, [logged.ts] * count, [logged.request_id] * count,
            [response.model] * count, [response.version] * count, response.scores.tolist(),
        ), strict=True))  # fmt: skip
        for name, value in request.context.items():
            values[f"context_{name}"] = [None if value is None else str(value)] * count
        for name in {*rows, *values}:
            column = rows.setdefault(name, [None] * before)
            column += values.get(name, [None] * count)
        self._metrics.request_log.labels("logged").inc()

    def _write(self, rows: dict[str, list[Any]]) -> None:
        path = (
            self._folder
            / f"requests-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}-{time.monotonic_ns()}.parquet"
        )
        unfinished = path.with_name(f".{path.name}")
        try:
            pq.write_table(pa.table(rows), unfinished, compression="zstd")
            os.replace(unfinished, path)
        except OSError as error:  # the disk is full, say: scores go on
            log.error("request log: %s: %s", path, error)
            self._metrics.request_log.labels("failed").inc()
            unfinished.unlink(missing_ok=True)
