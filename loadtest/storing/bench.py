"""make bench PART=store: what a behaviour costs in the store, in bytes and in time.

A store of its own, started here with the settings that the embedded one has; users are made up, seeded.
Writes loadtest/results/store.json and store.md. Times are medians; the machine's load stands beside them.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis
from rich.console import Console
from rich.progress import track

from loadtest.measured_on import RESULTS, facts, table
from loadtest.storing.freshness import measure
from loadtest.storing.made_up import BUCKETS, CROSS_FEATURES, DATA, USERS, made_up, median_ms
from loadtest.storing.states import bench_states
from store import keys
from store.append import Appender, Arrived, Caps
from store.behaviour_tree import BehaviourTree
from store.codec import decode, encode
from store.connection import connect
from store.embedded import embedded_store
from store.load_job import Job, checked_job
from store.types import FIRST_KNOWN, Behaviours

LIMITS = {
    "median": 12,
    "heavy": 10,
    "lifelong, 54,000": 10,
    "lifelong, 100,000": 10,
}  # + J, bytes a behaviour
SETTINGS = {"ours": 65536, "default": 64}  # hash-max-listpack-value
USER = "bytes"
APPENDED = 20_000  # events of each append row
LOADS = ("median", "heavy")  # users of the load rows
LOADED = 4_000_000  # behaviours of each

FRESH_RATE, FRESH_S = 1_000, 20  # events a second, seconds of each way

console = Console(stderr=True)


def bench_store(results: Path = RESULTS) -> Path:
    """Measure, and say where the tables are."""
    head = facts()
    with tempfile.TemporaryDirectory() as folder, embedded_store(Path(folder)) as url:
        redis = connect(url)
        content: dict[str, Any] = {
            "schema": 1,
            **head,
            "server": server_name(redis.info("server")),
            "cross_features": CROSS_FEATURES,
            "bytes": [_bytes(redis, name) for name in track(USERS, "bytes", console=console)],
            "reads": [_read(redis, name) for name in track(USERS, "reads", console=console)],
            "decode_ms": _decode(),
            "appends": [_append(redis, *work) for work in track(APPENDS, "appends", console=console)],
            "loads": [row for name in track(LOADS, "loads", console=console) for row in _load(redis, name)],
            "states": bench_states(redis),
        }
    content["freshness"] = _freshness()
    results.mkdir(parents=True, exist_ok=True)
    (results / "store.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / "store.md").write_text(_page(content))
    return results / "store.md"


def server_name(info: Mapping[str, Any]) -> str:
    """Server and version; a Valkey says under `redis_version` which Redis it can stand for."""
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"


def _bytes(redis: Redis, name: str) -> dict[str, Any]:
    """What the server says a tree takes, newest list and its own bookkeeping included, under both settings."""
    life = made_up(*USERS[name])
    key, row = keys.tree(DATA, USER), {"user": name, "behaviours": len(life), "categories": USERS[name][1]}
    for setting, value in SETTINGS.items():
        redis.config_set("hash-max-listpack-value", value)
        BehaviourTree(redis, DATA, CROSS_FEATURES).write(USER, life)
        whole = redis.memory_usage(key, samples=0)
        redis.hdel(key, keys.NEWEST_FIELD)
        tree = redis.memory_usage(key, samples=0)
        assert whole is not None
        assert tree is not None
        row |= {f"{setting}_tree_bytes": tree, f"{setting}_newest_bytes": whole - tree}
        row[f"{setting}_a_behaviour"] = round(tree / len(life), 2)
    redis.config_set("hash-max-listpack-value", SETTINGS["ours"])
    if name in LIMITS:
        row["limit"] = LIMITS[name] + CROSS_FEATURES
    return row


def _read(redis: Redis, name: str) -> dict[str, Any]:
    life, tree = made_up(*USERS[name]), BehaviourTree(redis, DATA, CROSS_FEATURES)
    tree.write(name, life)
    key, some = keys.tree(DATA, name), [b"%d" % category for category in range(FIRST_KNOWN, FIRST_KNOWN + 50)]
    return {
        "user": name,
        "life_ms": median_ms(lambda: tree.read_life(name)),
        "life_reply_ms": median_ms(lambda: redis.hgetall(key)),
        "50_categories_reply_ms": median_ms(lambda: redis.hmget(key, some)),
    }


def _decode() -> float:
    life = made_up(100_000, 1)
    blob = encode(life.row, life.ts, life.cross)
    return median_ms(lambda: decode(blob, CROSS_FEATURES))


APPENDS = [  # what, user, events a call, late
    ("newest, one a call", "median", 1, False),
    ("newest, 100 a call", "median", 100, False),
    ("late, one a call", "median", 1, True),
    ("newest, one a call", "lifelong, 100,000", 1, False),
    ("late, one a call", "lifelong, 100,000", 1, True),
]


def _append(redis: Redis, what: str, name: str, a_call: int, late: bool) -> dict[str, Any]:
    """Events into users of that kind, one user a call; the server's own time beside the caller's."""
    life, users = made_up(*USERS[name]), 20
    tree, appender = BehaviourTree(redis, DATA, CROSS_FEATURES), Appender(redis, DATA, CROSS_FEATURES)
    for user in range(users):
        tree.write(f"{name} {user}", life)
    random = np.random.default_rng(1)
    place, first, last = random.integers(0, len(life), APPENDED), int(life.ts[0]), int(life.ts[-1])
    events = [
        Arrived(
            f"{name} {i // a_call % users}", int(life.row[place[i]]), int(life.category[place[i]]),
            int(random.integers(first, last)) if late else last + 1 + i, bytes(CROSS_FEATURES),
        )
        for i in range(APPENDED)
    ]  # fmt: skip
    redis.config_resetstat()
    started = time.perf_counter()
    new = sum(sum(appender.append(events[start : start + a_call])) for start in range(0, APPENDED, a_call))
    seconds = time.perf_counter() - started
    stats = redis.info("commandstats")
    server_us = sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)
    return {
        "what": what, "user": name, "new": new, "events_a_second": round(APPENDED / seconds),
        "server_us_an_event": round(server_us / APPENDED, 1),
    }  # fmt: skip


def _load(redis: Redis, name: str) -> list[dict[str, Any]]:
    """Parquet of such users through the job of `python -m store load`, first into nothing, then again."""
    behaviours, categories = USERS[name]
    users = LOADED // behaviours
    data, rows = f"{DATA}.{behaviours}", []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "behaviours.parquet"
        _write_parquet(path, [made_up(behaviours, categories, seed) for seed in range(10)], users)
        category = np.arange(-FIRST_KNOWN, categories * 100) // 100 + FIRST_KNOWN
        category[:FIRST_KNOWN] = range(FIRST_KNOWN)
        url = redis.connection_pool.connection_kwargs["path"]
        buckets = {f"c{j}": BUCKETS for j in range(CROSS_FEATURES)}
        job = Job(str(path), f"unix://{url}", data, buckets, category.astype(np.int32), Caps())
        load = checked_job(job)
        for what in ("first", "again"):
            server, loader, started = _server_cpu_s(redis), time.process_time(), time.perf_counter()
            done = load(lambda _: None).behaviours
            wall, loader = time.perf_counter() - started, time.process_time() - loader
            server = _server_cpu_s(redis) - server
            rates = {"a_second": wall, "a_loader_cpu_s": loader, "a_server_cpu_s": server, "a_cpu_s_of_both": loader + server}
            rows.append(
                {"users": f"{users:,} {name}", "what": what, "behaviours": done}
                | {of: round(done / s) for of, s in rates.items()}
            )
    return rows


def _write_parquet(path: Path, lives: list[Behaviours], users: int) -> None:
    """These lives in turn, one user after another."""
    count = len(lives[0])
    columns = {"row": "row", "ts": "ts"}
    table = {name: np.concatenate([getattr(lives[u % len(lives)], of) for u in range(users)]) for name, of in columns.items()}
    cross = np.concatenate([lives[u % len(lives)].cross for u in range(users)])
    table |= {f"c{j}": cross[:, j] for j in range(CROSS_FEATURES)}
    pq.write_table(pa.table({"user_id": np.repeat([f"u{u:07d}" for u in range(users)], count)} | table), path)


def _server_cpu_s(redis: Redis) -> float:
    """CPU seconds of the server's main thread and those beside it."""
    cpu = redis.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _freshness() -> list[dict[str, Any]]:
    """A row for the stream, and one for HTTP where there is a bundle to serve."""
    bundles = sorted(Path("bundles").glob("*/*/manifest.json"), key=lambda path: path.parent.name)
    console.print(f"freshness, {2 * FRESH_S} s" if bundles else "freshness: the stream only, there is no bundle (make demo)")
    measured = measure(FRESH_RATE, FRESH_S, bundles[-1].parent if bundles else None)
    return [{"way": way, **measured[way]} for way in ("stream", "http") if way in measured]


def _page(content: dict[str, Any]) -> str:
    """The tables as Markdown."""
    parts = [
        f"# Store\n\n{content['made']}, {content['machine']}, load before {content['load_before']}, {content['server']}, "
        f"commit {content['commit']}, {content['cross_features']} cross features. `make bench PART=store` measures again.\n",
        "## Bytes a behaviour\n\nOf the tree without the newest list, which stands beside it; `ours` is "
        "`hash-max-listpack-value 65536`, as the servers we start have it, `default` a server's own 64; lists of 256 fields at "
        "most in both.\n",
        _table(content["bytes"]),
        "## Reads\n\nMedians in ms, one connection; `life` is read and decoded, the others are the server's reply alone; "
        "`50 categories` are their own fields, all that a search of 128 of each reads.\n",
        _table(content["reads"]),
        f"Decoding one value of 100,000 behaviours: {content['decode_ms']} ms.\n",
        "## Appends\n\nOne connection, one user a call.\n",
        _table(content["appends"]),
        "## Load\n\nParquet through the job of `python -m store load`, in process, into an empty store, then the same again; "
        "behaviours a second of wall clock, and a second of CPU of the loader, of the server, of both together.\n",
        _table(content["loads"]),
        "## States\n\nBytes of a user's snapshot beside the tree, and a read of it with the newest list beside a read of the "
        "whole life, decoded, medians in ms. A keeper leaves 32 behaviours after the snapshot. dsin cuts its sessions from "
        "the newest list when a request comes: it keeps nothing.\n",
        _table(content["states"]),
        f"## Freshness\n\n{FRESH_RATE:,} events a second for {FRESH_S} s, offered at fixed times, generator and store on one "
        "machine. `stream`: from an entry's id to the first read of the tree that has it; `http`: from the intended sending of a "
        "call of 1 to 20 events to its 202. CPU in cores.\n",
        _table(content["freshness"]) if content["freshness"] else "Not measured.\n",
    ]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table([name.replace("_", " ") for name in names], [[_cell(row.get(name)) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
