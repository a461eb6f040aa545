"""make bench PART=store: what a behaviour costs in the store, in bytes and in time.

A store of its own, started here with the settings that the embedded one has; users are made up, seeded.
Writes loadtest/results/store.json and store.md. Times are medians; the machine's load stands beside them.
"""

import json
import os
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis
from rich.console import Console
from rich.progress import track

from export.report.machine import machine
from loadtest.made_up import CROSS_FEATURES, DATA, USERS, made_up, median_ms
from loadtest.states_bench import bench_states
from store import keys
from store.append import Appender, Arrived
from store.behaviour_tree import BehaviourTree
from store.codec import decode, encode
from store.connection import connect
from store.embedded import embedded_store
from store.types import FIRST_KNOWN

RESULTS = Path("loadtest/results")
LIMITS = {
    "median": 12,
    "heavy": 10,
    "lifelong, 54,000": 10,
    "lifelong, 100,000": 10,
}  # + J, bytes a behaviour
SETTINGS = {"ours": 65536, "default": 64}  # hash-max-listpack-value
USER = "bytes"
APPENDED = 20_000  # events of each append row
LOADED = 2_000  # median users of the load row

console = Console(stderr=True)


def bench_store(results: Path = RESULTS) -> Path:
    """Measure, and say where the tables are."""
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, embedded_store(Path(folder)) as url:
        redis = connect(url)
        content: dict[str, Any] = {
            "schema": 1,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load_before": round(before, 2),
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
            "server": f"{redis.info('server').get('server_name', 'redis')} {redis.info('server')['redis_version']}",
            "cross_features": CROSS_FEATURES,
            "bytes": [_bytes(redis, name) for name in track(USERS, "bytes", console=console)],
            "reads": [_read(redis, name) for name in track(USERS, "reads", console=console)],
            "decode_ms": _decode(),
            "appends": [_append(redis, *work) for work in track(APPENDS, "appends", console=console)],
            "load": _load(redis),
            "states": bench_states(redis),
        }
    results.mkdir(parents=True, exist_ok=True)
    (results / "store.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / "store.md").write_text(_page(content))
    return results / "store.md"


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


def _load(redis: Redis) -> dict[str, Any]:
    """Trees of median users, first into nothing, then again."""
    tree, life = BehaviourTree(redis, DATA, CROSS_FEATURES), made_up(*USERS["median"])
    users = [(f"load {i}", life) for i in range(LOADED)]
    rates = {}
    for what in ("first", "again"):
        started, cpu = time.perf_counter(), time.process_time()
        tree.merge_many(iter(users), lambda *_: None)
        rows = LOADED * len(life)
        rates[f"{what}_behaviours_a_second"] = round(rows / (time.perf_counter() - started))
        rates[f"{what}_behaviours_a_cpu_second"] = round(rows / (time.process_time() - cpu))
    return {"users": LOADED, "behaviours": LOADED * len(life), **rates}


def _page(content: dict[str, Any]) -> str:
    """The tables as Markdown."""
    parts = [
        f"# Store\n\n{content['made']}, {content['machine']}, load before {content['load_before']}, {content['server']}, "
        f"commit {content['commit']}, {content['cross_features']} cross features. `make bench PART=store` measures again.\n",
        "## Bytes a behaviour\n\nOf the tree without the newest list, which stands beside it; `ours` is "
        "`hash-max-listpack-value 65536`, as the servers we start have it, `default` a server's own 64.\n",
        _table(content["bytes"]),
        "## Reads\n\nMedians in ms, one connection; `life` is read and decoded, the others are the server's reply alone.\n",
        _table(content["reads"]),
        f"Decoding one value of 100,000 behaviours: {content['decode_ms']} ms.\n",
        "## Appends\n\nOne connection, one user a call.\n",
        _table(content["appends"]),
        "## Load\n\nTrees of median users into an empty store, then the same again. One process.\n",
        _table([content["load"]]),
        "## States\n\nBytes of a user's snapshot beside the tree, and a read of it with the newest list beside a read of the "
        "whole life, decoded, medians in ms. A keeper leaves 32 behaviours after the snapshot. dsin cuts its sessions from "
        "the newest list when a request comes: it keeps nothing.\n",
        _table(content["states"]),
    ]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_cell(row.get(name)) for name in names] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)
