"""A sample of what was asked and answered, as Parquet in the form of own data: for the next training, once labels are joined.

A row a candidate: user_id, item_id, category, ts and the context, and beside them columns that training does not read:
`logged_request_id`, `logged_model`, `logged_version`, `logged_score`. Clicks are joined by request id and item as `label`. A file
is whole when it has its name; a folder of them named interactions.parquet is read like one file. The log is never in the way:
what cannot be written in time is dropped and counted.
"""

import logging
import os
import queue
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.bundles import Bundles
from service.errors import ScorerError
from service.metrics import Metrics
from service.request import ScoreRequest
from service.scores import ScoreResponse
from store.bundle import Bundle
from store.types import FIRST_KNOWN

log = logging.getLogger("longtrail")

WAITING = 1_000  # requests at most that wait to be written
ROWS, SECONDS = 200_000, 60.0  # of a file: whichever comes first
LAST_S = 5.0


@dataclass(frozen=True)
class Logged:
    """One request and its answer."""

    request: ScoreRequest
    response: ScoreResponse
    request_id: str
    ts: int


class RequestLog:
    """Writes a share of the requests into a folder, from a thread of its own."""

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
        """Log a request, if it is in the sample. Cost: a few microseconds; never waits."""
        if random.random() >= self._share:
            return
        ts = int(time.time()) if request.at is None else request.at
        try:
            self._waiting.put_nowait(Logged(request, response, request_id, ts))
        except queue.Full:
            self._metrics.request_log.labels("dropped").inc()

    def close(self) -> None:
        """Write what waits, and end; a disk that hangs is not waited for."""
        try:
            self._waiting.put(None, timeout=LAST_S)
        except queue.Full:
            return
        self._thread.join(LAST_S)

    def _run(self) -> None:
        """Gather rows for a file, write it, and again."""
        ended = False
        while not ended:
            tables: list[pa.Table] = []
            rows, until = 0, time.monotonic() + SECONDS
            while rows < ROWS and (left := until - time.monotonic()) > 0 and not ended:
                try:
                    logged = self._waiting.get(timeout=left)
                except queue.Empty:
                    break
                ended = logged is None
                if logged is not None and (table := self._rows_of(logged)) is not None:
                    tables.append(table)
                    rows += len(table)
            if tables:
                self._write(tables)

    def _rows_of(self, logged: Logged) -> pa.Table | None:
        request, response, count = logged.request, logged.response, len(logged.request.item_ids)
        try:
            bundle = self._bundles.get(f"{response.model}:{response.version}").bundle
            registry = bundle.registry
            categories = pa.array([None] * FIRST_KNOWN + registry.category_names, pa.string())
            columns = {
                "user_id": _repeated(request.user_id, count),
                "item_id": pa.array(request.item_ids, pa.string()),
                "category": categories.take(pa.array(registry.candidates(request.item_ids).category)),
                "ts": pa.repeat(pa.scalar(logged.ts, pa.int64()), count),
                **{f"context_{name}": _repeated(value, count) for name, value in _context(bundle, logged).items()},
                "logged_request_id": _repeated(logged.request_id, count),
                "logged_model": _repeated(response.model, count),
                "logged_version": _repeated(response.version, count),
                "logged_score": pa.array(response.scores),
            }
            return pa.table(columns)
        except ScorerError:  # the version went away meanwhile
            self._metrics.request_log.labels("dropped").inc()
        except Exception:  # the edge: the log goes on
            log.exception("request log: a request was left out")
            self._metrics.request_log.labels("failed").inc()
        return None

    def _write(self, tables: list[pa.Table]) -> None:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = self._folder / f"requests-{moment}-{os.getpid()}-{time.monotonic_ns()}.parquet"
        unfinished = path.with_name(f".{path.name}")
        try:
            pq.write_table(pa.concat_tables(tables, promote_options="default"), unfinished, compression="zstd")
            os.replace(unfinished, path)
        except (OSError, pa.ArrowException) as error:  # the disk is full, say: scores go on
            log.error("request log: %s: %s", path, error)
            self._metrics.request_log.labels("failed").inc(len(tables))
            unfinished.unlink(missing_ok=True)
        else:
            self._metrics.request_log.labels("logged").inc(len(tables))


def _context(bundle: Bundle, logged: Logged) -> dict[str, object]:
    """Every context of the bundle, as the model read it: the clock's where none was given."""
    schema, given = bundle.manifest.schema_, logged.request.context
    codes = schema.encode_context(given, logged.ts).tolist()
    return {
        feature.name: given.get(feature.name) if code < FIRST_KNOWN else feature.values[code - FIRST_KNOWN]
        for feature, code in zip(schema.context, codes, strict=True)
    }


def _repeated(value: object, count: int) -> pa.Array:
    """A column of one text; None stays a null."""
    return pa.repeat(pa.scalar(None if value is None else str(value), pa.string()), count)
