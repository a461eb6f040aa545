"""python -m loadtest tables BUNDLE: a request over published tables against the same over mapped ones, in one run.

Mapped, every block in the cache, and no block in it take turns, request by request; medians. Users are made up: items
and candidates by a Zipf law over all rows of the bundle, seeded.
"""

import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from rich.table import Table

from service.behaviours import StoreReader
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from service.table_refresh import TableRefresher
from store.behaviour_tree import BehaviourTree
from store.bundle import Bundle
from store.connection import connect
from store.embedded import embedded_store
from store.load import store_schema
from store.publish import publish
from store.registry import StoredRegistry
from store.types import FIRST_KNOWN, Behaviours

LIVES = (1_000, 10_000)  # behaviours
CANDIDATES = 500
REPEATS = 40
CACHES = {"cached": 1 << 30, "not cached": 1}  # bytes; one block is all that the latter holds
ZIPF = 0.8


def bench_tables(folder: Path) -> Table:
    """Measure one bundle; a table for people. Cost: about a minute."""
    bundle = Bundle(folder)
    manifest, redis_folder = bundle.manifest, ExitStack()
    with redis_folder, tempfile.TemporaryDirectory(prefix="lt-") as alone:
        url = redis_folder.enter_context(
            embedded_store(Path(redis_folder.enter_context(tempfile.TemporaryDirectory(prefix="lt-"))))
        )
        shutil.copytree(folder, Path(alone) / manifest.model / manifest.version)
        redis = connect(url)
        store_schema(redis, manifest.schema_)
        StoredRegistry(redis, manifest.data).load(bundle.registry)
        started = time.perf_counter()
        sent = publish(bundle, redis)
        published_s = time.perf_counter() - started
        for life in LIVES:
            BehaviourTree(redis, manifest.data, len(manifest.schema_.cross_features)).write(str(life), _life(bundle, life))
        scorers, metrics = {"mapped": _mapped(Path(alone), url)}, {}
        for name, cache_bytes in CACHES.items():
            scorers[name], metrics[name] = _stored(Path(alone), url, cache_bytes)
        table = Table("behaviours", "tables", "ms", "times mapped", "blocks a request", "of them cached")
        for life in LIVES:
            _measure(table, bundle, life, scorers, metrics)
        table.caption = (
            f"{manifest.model}, {CANDIDATES} candidates; published: {manifest.item_rows:,} rows, "
            f"{sent.value_bytes / 2**20:.1f} MiB in {sent.values:,} values, {published_s:.1f} s"
        )
        return table


def _measure(table: Table, bundle: Bundle, life: int, scorers: dict[str, Scorer], metrics: dict[str, Metrics]) -> None:
    """Rows of one user, all forms in turns."""
    took: dict[str, list[float]] = {name: [] for name in scorers}
    counts = {name: [_count(metrics[name], kind) for kind in ("hits", "misses")] for name in metrics}
    for repeat in range(REPEATS + 2):
        request = _request(bundle, life, repeat)
        for name, scorer in scorers.items():
            started = time.perf_counter()
            score(request, scorer, StageTimer())
            took[name].append((time.perf_counter() - started) * 1000)
    mapped = median(took["mapped"][2:])
    for name in scorers:
        blocks = ["", ""]
        if name in metrics:
            hits, misses = (_count(metrics[name], kind) - was for kind, was in zip(("hits", "misses"), counts[name], strict=True))
            blocks = [f"{(hits + misses) / (REPEATS + 2):,.0f}", f"{hits / (hits + misses):.1%}"]
        ms = median(took[name][2:])
        table.add_row(f"{life:,}", name, f"{ms:.2f}", f"{ms / mapped:.2f}", *blocks)


def _mapped(bundles: Path, url: str) -> Scorer:
    loaded = Bundles(bundles, "", "", Loading("cpu", 1), Metrics())
    return Scorer(loaded, StoreReader(connect(url), Metrics()))


def _stored(bundles: Path, url: str, cache_bytes: int) -> tuple[Scorer, Metrics]:
    metrics = Metrics()
    loaded = Bundles(bundles, "", "", Loading("cpu", 1), metrics)
    TableRefresher(loaded, connect(url), connect(url), cache_bytes, 60, metrics).poll()
    return Scorer(loaded, StoreReader(connect(url), metrics)), metrics


def _rows(bundle: Bundle, count: int, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Rows by a Zipf law, popular ones spread over all blocks."""
    random, items = np.random.default_rng(seed), bundle.manifest.item_rows - FIRST_KNOWN
    share = np.arange(1, items + 1) ** -ZIPF
    order = np.random.default_rng(0).permutation(items)
    return (order[random.choice(items, count, p=share / share.sum())] + FIRST_KNOWN).astype(np.int32)


def _life(bundle: Bundle, count: int) -> Behaviours:
    row = _rows(bundle, count, count)
    ts = 1_500_000_000 + np.arange(count, dtype=np.int64) * 1000
    cross = np.ones((count, len(bundle.manifest.schema_.cross_features)), np.uint8)
    return Behaviours.in_order(row, bundle.registry.category_of(row), ts, cross)


def _request(bundle: Bundle, life: int, seed: int) -> ScoreRequest:
    ids = [bundle.registry.ids[row - FIRST_KNOWN] for row in _rows(bundle, CANDIDATES, seed).tolist()]
    return ScoreRequest.model_validate({"user_id": str(life), "item_ids": ids, "model": bundle.manifest.model})


def _count(metrics: Metrics, kind: str) -> float:
    return metrics.registry.get_sample_value(f"ctr_table_cache_{kind}_total") or 0.0
