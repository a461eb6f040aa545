"""python -m loadtest plan: what was measured on one machine, as machines, memory and network of a fleet.

    store    memory    users x (behaviours x bytes a behaviour + newest list + state) x copies / filled
             cores     requests/s x reply time / busy
             network   requests/s x bytes read
    scorers  cores     requests/s x (CPU a request + missing blocks x 0.1 ms) / busy
             memory    items x bytes of a row in the model's tables, on each machine
             network   requests/s x (bytes read + request + answer + missing blocks x 16 KiB)

A machine count is the largest that memory, cores or network ask for. Bytes and reply times are those of results/store.json,
CPU that of results/table.json, and of results/curves.json where that is there; lives between measured ones are interpolated.
Bytes read: the newest list, and with it a state, or the life, of which a search by category reads the newest 192 of each at most.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.models.contract import CTRModel, DataShape
from export.models.registry import build
from loadtest.measured_on import RESULTS
from loadtest.speed.work import TABLE
from store.behaviour_tree import NEWEST
from store.bundle import ITEM_VECTOR
from store.checked_values import CHUNK
from store.search import SEARCHES

MISS_MS, BLOCK_BYTES = 0.1, 16 * 1024  # of a block of an item table that the scorer has to fetch: `python -m loadtest tables`
REQUEST_BYTES, ANSWER_BYTES = (300, 11), (400, 12)  # of a request, and for each candidate
WORKS = ("short", "tree", "scan", "state")  # rows of the table that stand for a model
CURVES = ("behaviours", "candidates")
CANDIDATES, CATEGORIES = 500, 150  # of the table's requests
OF_EACH = 1.5 * CHUNK  # behaviours that a long category's own field has, on average
OTHER_MODELS = {(work.work, work.model, work.behaviours) for work in TABLE if work.serving.models[work.model]}  # not the defaults


@dataclass(frozen=True)
class Demand:
    """What the fleet shall do."""

    users: float = 600e6
    behaviours: float = 1_000  # of a user, on average
    requests_per_s: float = 1e6
    model: str = "sim_hard"
    candidates: float = 500
    hit_rate: float = 1.0  # of blocks of item tables on the scorer; 1 = mapped tables, all of them there
    items: float = 10e6


@dataclass(frozen=True)
class Machine:
    """What a machine has, and how much of it may be used."""

    cores: int = 32
    memory_gb: float = 256
    network_gbit: float = 25
    busy: float = 0.5  # of cores and network, so that one machine in ten may be away and waits stay short
    filled: float = 0.7  # of memory
    copies: int = 2  # of the store: a primary and a replica


@dataclass(frozen=True)
class Measured:
    """Interpolated results; `notes` say where a figure is a bound."""

    user_bytes: float
    read_bytes: float
    reply_ms: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    blocks: float  # of item tables that a request reads
    row_bytes: int  # of an item in the model's tables
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Fleet:
    """Machines, memory and network of one kind."""

    machines: int
    cores: float
    memory_gb: float  # in all
    network_gbit: float  # in all
    decided_by: str


def measured(demand: Demand, results: Path = RESULTS) -> Measured:
    """What the result files say for a demand.

    Raises:
        ValueError: a file or what is needed of it is missing; the text names the command that makes it.
    """
    store = _read(results / "store.json", "make bench PART=store")
    rows = _read(results / "table.json", "make bench")["rows"]
    curves = json.loads((results / "curves.json").read_text())["points"] if (results / "curves.json").is_file() else []
    stand = [row for row in rows if row["model"] == demand.model and row["work"] in WORKS]
    stand = [row for row in stand if (row["work"], row["model"], row["behaviours"]) not in OTHER_MODELS]
    if not stand:
        raise ValueError(
            f"{results / 'table.json'}: no row of {demand.model}; it has {', '.join(sorted({r['model'] for r in rows}))}"
        )
    drawn = {name: [row for row in curves if row["model"] == demand.model and row["curve"] == name] for name in CURVES}
    lives = {row["behaviours"]: row for row in (*drawn["behaviours"], *stand)}
    factor, notes = _candidates(demand.candidates, {row["candidates"]: row["cpu_ms"] for row in drawn["candidates"]})
    if not min(lives) <= demand.behaviours <= max(lives):
        notes.append(f"measured with {min(lives):,} to {max(lives):,} behaviours: the nearest stands for {demand.behaviours:,g}")
    cpu, p50, p99 = (
        factor * _between(demand.behaviours, {life: row[name] for life, row in lives.items()})
        for name in ("cpu_ms", "p50_ms", "p99_ms")
    )
    tree, newest = (
        {row["behaviours"]: row[name] / (row["behaviours"] if name == "ours_tree_bytes" else 1) for row in store["bytes"]}
        for name in ("ours_tree_bytes", "ours_newest_bytes")
    )
    a_behaviour, newest_bytes = _between(demand.behaviours, tree), _between(demand.behaviours, newest)
    state_bytes = _state_bytes(store, demand, results)
    read = 0.0 if state_bytes else _read_behaviours(demand)
    replies = {_behaviours(store, row["user"]): row["life_reply_ms"] for row in store["reads"]}
    row_bytes, tables = _tables(demand.model)
    return Measured(
        user_bytes=a_behaviour * demand.behaviours + newest_bytes + state_bytes,
        read_bytes=a_behaviour * read + newest_bytes + state_bytes,
        reply_ms=_between(read, replies), cpu_ms=cpu, p50_ms=p50, p99_ms=p99,
        blocks=tables * (demand.candidates + (read or NEWEST)), row_bytes=row_bytes, notes=tuple(notes),
    )  # fmt: skip


def _read_behaviours(demand: Demand) -> float:
    """How many of the life a search reads: all, or none but the newest list, or those of the candidates' categories at most."""
    reads = SEARCHES[_model(demand.model).search_name].reads
    return {"life": demand.behaviours, "categories": min(demand.behaviours, CATEGORIES * OF_EACH), "newest": 0.0}[reads]


def _candidates(wanted: float, cpu_ms: Mapping[int, float]) -> tuple[float, list[str]]:
    """CPU of so many candidates, as a multiple of that of 500: along the line through what was measured, else proportional."""
    factor = wanted / CANDIDATES
    if factor == 1 or len(cpu_ms) < 2:
        said = "CPU is taken as proportional to candidates (make bench PART=curves measures it)"
        return factor, [] if factor == 1 else [said]
    slope, fixed = np.polyfit(list(cpu_ms), list(cpu_ms.values()), 1)
    return float((fixed + slope * wanted) / (fixed + slope * CANDIDATES)), []


def plan(demand: Demand, machine: Machine, of: Measured) -> tuple[Fleet, Fleet]:
    """Store and scorers."""
    per_s, missing = demand.requests_per_s, of.blocks * (1 - demand.hit_rate)
    from_store = per_s * of.read_bytes
    store = _fleet(
        machine, per_s * of.reply_ms / 1000, demand.users * of.user_bytes * machine.copies / machine.filled / 1e9,
        from_store + per_s * missing * BLOCK_BYTES, shared=True,
    )  # fmt: skip
    spoken = sum(REQUEST_BYTES[0:1] + ANSWER_BYTES[0:1]) + demand.candidates * (REQUEST_BYTES[1] + ANSWER_BYTES[1])
    scorers = _fleet(
        machine, per_s * (of.cpu_ms + missing * MISS_MS) / 1000, demand.items * of.row_bytes / machine.filled / 1e9,
        from_store + per_s * (spoken + missing * BLOCK_BYTES), shared=False,
    )  # fmt: skip
    return store, scorers


def sensitivity(demand: Demand, machine: Machine, results: Path = RESULTS) -> list[tuple[str, Fleet, Fleet, tuple[str, ...]]]:
    """The plan with half and twice the candidates, a tenth and ten times the behaviours, and blocks that miss; with its notes."""
    others = {f"{factor:g} x candidates": replace(demand, candidates=demand.candidates * factor) for factor in (0.5, 2)}
    others |= {f"{factor:g} x behaviours": replace(demand, behaviours=demand.behaviours * factor) for factor in (0.1, 10)}
    others |= {f"hit rate {rate}": replace(demand, hit_rate=rate) for rate in (0.999, 0.99)}
    found = {name: measured(other, results) for name, other in others.items()}
    return [(name, *plan(other, machine, found[name]), found[name].notes) for name, other in others.items()]


def _fleet(machine: Machine, busy_cores: float, memory_gb: float, bytes_per_s: float, shared: bool) -> Fleet:
    """`shared`: memory is what all machines hold together, not each."""
    cores, gbit = busy_cores / machine.busy, bytes_per_s * 8 / 1e9
    if not shared and memory_gb > machine.memory_gb:
        raise ValueError(
            f"item tables take {memory_gb:,.0f} GB on each scorer, it has {machine.memory_gb:g}: use CTR_TABLES=store"
        )
    needed = {
        "memory": memory_gb / machine.memory_gb if shared else 1.0,
        "cores": cores / machine.cores,
        "network": gbit / (machine.network_gbit * machine.busy),
    }
    decided = max(needed, key=lambda name: needed[name])
    machines = math.ceil(round(needed[decided], 9))
    return Fleet(machines, cores, memory_gb if shared else memory_gb * machines, gbit, decided)


def _between(at: float, known: Mapping[int, float]) -> float:
    """Linear between known places, and the nearest known value outside of them."""
    places = sorted(known)
    return float(np.interp(at, places, [known[place] for place in places]))


def _behaviours(store: Mapping[str, Any], user: str) -> int:
    return int(next(row["behaviours"] for row in store["bytes"] if row["user"] == user))


def _state_bytes(store: Mapping[str, Any], demand: Demand, results: Path) -> float:
    """Of a model that keeps something of its users; 0 for others."""
    model = _model(demand.model)
    if not (hasattr(model, "state_axes") or SEARCHES[model.search_name].clustered):
        return 0.0
    sizes = {row["behaviours"]: float(row["bytes"]) for row in store.get("states", []) if row["model"] == demand.model}
    if not sizes:
        raise ValueError(
            f"{results / 'store.json'}: no bytes of the states of {demand.model}; make bench PART=store measures them"
        )
    return _between(demand.behaviours, sizes)


def _model(name: str) -> CTRModel:
    """What reads and tables are asked of: a model of the smallest data."""
    return build(name, DataShape([4, 4], [8], []))


def _tables(name: str) -> tuple[int, int]:
    """Bytes of an item in a model's tables, and how many tables that are."""
    model = _model(name)
    with torch.no_grad():
        vectors = model.items(torch.zeros(3, 2, dtype=torch.long))
        made = {ITEM_VECTOR: vectors.numpy(), **model.tables(vectors)}
    sizes = [table.nbytes // len(vectors) for table_name, table in made.items() if table_name not in model.constants]
    return sum(sizes), len(sizes)


def _read(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: missing; `{command}` measures it")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
