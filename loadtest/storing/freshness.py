"""How fresh events are: from their arrival to visible, by the stream and by POST /events, at a constant rate.

Open loop: the generator is a process of its own and sends at fixed times, whatever the answers do. The stream's
freshness is measured from outside: every tenth event is one user's, whose tree a third process reads again and
again; from the entry's millisecond id to the first read that has it, so up to a millisecond too long. By HTTP it
is from the intended sending to the 202, the caller's own time included.
"""

import http.client
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from redis import Redis

from loadtest.service_process import cpu_s, service_process
from store import keys
from store.behaviour_tree import BehaviourTree
from store.bundle import REGISTRY, read_manifest
from store.connection import connect, text
from store.embedded import embedded_store
from store.load import store_schema
from store.registry import Registry, StoredRegistry
from store.schema import CrossFeature, Schema
from store.types import FIRST_KNOWN, Behaviours

USERS, LIFE = 1_000, 400  # trees that are there before
PROBE, PROBED = "probe", 10  # the user that is watched; every so many events are theirs
CALLERS, A_CALL = 8, 20  # threads of the HTTP generator; events a call, 1 up to so many
DRAIN_S = 10
LOG = Path("runs/freshness.log")


def measure(rate: int = 1_000, seconds: int = 20, bundle: Path | None = None) -> dict[str, Any]:
    """Offer `rate` events/s for so long, first through the stream, then, where there is a bundle, by HTTP.

    A store of its own, with trees of `LIFE` behaviours; schema and items are the bundle's, or made up. Times in ms,
    CPU in cores. Cost: twice the seconds, and ten more.
    """
    spawn = multiprocessing.get_context("spawn")
    result: dict[str, Any] = {"offered_per_s": rate, "seconds": seconds, "load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory() as folder, embedded_store(Path(folder) / "store") as url:
        redis = connect(url)
        data, item = _fill(redis, bundle)
        with service_process("consume", "/metrics", LOG, CTR_REDIS_URL=url, CTR_DATA=data) as (consumer, _):
            sent, seen = spawn.Queue(), spawn.Queue()
            probe = keys.tree(data, PROBE)
            processes = [
                spawn.Process(target=_watch, args=(url, probe, rate * seconds // PROBED, seconds + DRAIN_S, seen)),
                spawn.Process(target=_send_entries, args=(url, keys.events(data), item, rate, seconds, sent)),
            ]
            result["stream"] = _run(redis, consumer, processes, lambda: _stream_row(sent.get(), seen.get()), seconds)
        if bundle is not None:
            bundles = Path(folder) / "bundles" / bundle.parent.name
            bundles.mkdir(parents=True)
            shutil.copytree(bundle, bundles / bundle.name)
            served = {"CTR_REDIS_URL": url, "CTR_BUNDLES": str(bundles.parent)}
            with service_process("", "/v2/health/ready", LOG, **served) as (scorer, port):
                answered = spawn.Queue()
                caller = spawn.Process(target=_send_calls, args=(port, item, rate, seconds, answered))
                result["http"] = _run(redis, scorer, [caller], lambda: _http_row(answered.get()), seconds)
        redis.close()
    return result


def _fill(redis: Redis, bundle: Path | None) -> tuple[str, str]:
    """Schema, items and trees; the data set and the probe's item."""
    if bundle is None:
        schema = Schema(data="bench", cross_features=[CrossFeature(name=f"f{j}", edges=[1.0]) for j in range(4)], context=[])
        ids = [f"i{i}" for i in range(20_000)]
        registry = Registry.build("bench", ids, [f"c{i % 200}" for i in range(len(ids))])
    else:
        schema, registry = read_manifest(bundle).schema_, Registry.load(bundle / REGISTRY)
    store_schema(redis, schema)
    StoredRegistry(redis, schema.data).load(registry)
    random, crosses = np.random.default_rng(0), len(schema.cross_features)
    tree = BehaviourTree(redis, schema.data, crosses)
    for user in range(USERS):
        row = random.integers(FIRST_KNOWN, registry.item_rows, LIFE).astype(np.int32)
        ts = np.sort(random.integers(1_400_000_000, 1_500_000_000, LIFE))
        tree.write(f"u{user}", Behaviours.in_order(row, registry.category[row], ts, np.zeros((LIFE, crosses), np.uint8)))
    return schema.data, registry.ids[0]


def _events(item: str, count: int) -> list[bytes]:
    """Events as JSON; every tenth the probe's, each a second after the one before."""
    random = np.random.default_rng(1)
    users = [PROBE if i % PROBED == 0 else f"u{user}" for i, user in enumerate(random.integers(0, USERS, count))]
    return [orjson.dumps({"user_id": user, "item_id": item, "ts": 1_600_000_000 + i}) for i, user in enumerate(users)]


def _send_entries(url: str, stream: str, item: str, rate: int, seconds: int, out: Any) -> None:
    """XADD at fixed times; out: seconds it took, CPU, and the ids of the probe's entries in milliseconds."""
    redis, events = connect(url), _events(item, rate * seconds)
    ids = []
    started, cpu = time.perf_counter(), time.process_time()
    for i, event in enumerate(events):
        time.sleep(max(started + i / rate - time.perf_counter(), 0))
        entry = redis.xadd(stream, {"data": event})
        if i % PROBED == 0:
            ids.append(int(text(entry or b"").partition("-")[0]))
    out.put((time.perf_counter() - started, time.process_time() - cpu, ids))


def _watch(url: str, key: str, count: int, limit_s: float, out: Any) -> None:
    """Read again and again how many behaviours the probe's tree has; out: when each was first seen, Unix ms."""
    redis, end = connect(url), time.monotonic() + limit_s
    seen: list[float] = []
    while len(seen) < count and time.monotonic() < end:
        total = int(redis.hget(key, keys.TOTAL_FIELD) or 0)
        seen += [time.time() * 1000] * (total - len(seen))
        time.sleep(0.0005)
    out.put(seen)


def _send_calls(port: int, item: str, rate: int, seconds: int, out: Any) -> None:
    """POST /events at fixed times; out: seconds it took, CPU, events, and of each call its ms and status."""
    events, random = _events(item, rate * seconds), np.random.default_rng(2)
    starts = [0]
    while starts[-1] < len(events):
        starts.append(min(starts[-1] + int(random.integers(1, A_CALL + 1)), len(events)))
    bodies = [b'{"events": [' + b", ".join(events[a:b]) + b"]}" for a, b in pairwise(starts)]
    free = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(CALLERS)]
    started, cpu = time.perf_counter() + 0.1, time.process_time()

    def call(number: int) -> tuple[float, int]:
        due = started + starts[number] / rate
        time.sleep(max(due - time.perf_counter(), 0))
        connection = free.pop()
        connection.request("POST", "/events", bodies[number], {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        free.append(connection)
        return (time.perf_counter() - due) * 1000, response.status

    with ThreadPoolExecutor(CALLERS) as threads:
        calls = list(threads.map(call, range(len(bodies))))
    for connection in free:
        connection.close()
    out.put((time.perf_counter() - started, time.process_time() - cpu, len(events), calls))


def _run(
    redis: Redis, server: "subprocess.Popen[bytes]", processes: list[Any], row: Callable[[], dict[str, Any]], seconds: int
) -> dict[str, Any]:
    """Let the processes run and make the row, with the CPU of server and store beside it."""
    before = cpu_s(server.pid), _store_cpu_s(redis)
    for process in processes:
        process.start()
    made = row()
    for process in processes:
        process.join()
    server_s, store_s = cpu_s(server.pid) - before[0], _store_cpu_s(redis) - before[1]
    return made | {"server_cpu": round(server_s / seconds, 2), "store_cpu": round(store_s / seconds, 2)}


def _stream_row(sent: tuple[float, float, list[int]], seen: list[float]) -> dict[str, Any]:
    lasted, cpu, ids = sent
    times = [at - entry for at, entry in zip(seen, ids, strict=False)]
    return _row(len(ids) * PROBED / lasted, cpu / lasted, times, len(ids) - len(seen))


def _http_row(answered: tuple[float, float, int, list[tuple[float, int]]]) -> dict[str, Any]:
    lasted, cpu, events, calls = answered
    return _row(events / lasted, cpu / lasted, [ms for ms, _ in calls], sum(status != 202 for _, status in calls))


def _row(achieved: float, generator_cpu: float, times: list[float], errors: int) -> dict[str, Any]:
    p50, p99 = np.percentile(times, (50, 99)).round(1)
    return {
        "achieved_per_s": round(achieved), "n": len(times), "p50_ms": float(p50), "p99_ms": float(p99),
        "max_ms": round(max(times), 1), "errors": errors, "generator_cpu": round(generator_cpu, 2),
    }  # fmt: skip


def _store_cpu_s(redis: Redis) -> float:
    found = redis.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])
