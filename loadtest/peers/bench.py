"""make bench PART=peers: ours beside what one would take instead, in one run, in turns.

Servers of other systems over the same ONNX models (`servers.py`); FuxiCTR's models and a plain export of ours, in
process (`forward_bench.py`). Their packages are installed into .venv-peers first. Writes peers.json and peers.md.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from loadtest.measured_on import FOLDER, RESULTS, facts, table
from loadtest.peers.environment import REQUIREMENTS, peer_python
from loadtest.peers.forward_bench import measure_forwards
from loadtest.peers.forward_work import WORKS
from loadtest.peers.servers import WORKERS, Effort, measure_servers
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.speed.page import head_line, ms

NEEDED_GB = 18  # free: the two tiled forms of the widest work are in memory at the same time
QUICK = Effort(rounds=1, seconds=2, saturating=100, users=3, bodies=10, checked=3)
FULL = Effort()
MEASURED_BESIDE = ("bentoml", "ray[serve]", "litserve", "fastapi", "fuxictr", "torch")
SIZES = Sizes()
SERVERS_ARE = f"""\
## The same ONNX models behind other servers

The bundle's graph and tables, and the same bodies for all: a user, CANDIDATES candidates, a context, as JSON. Every system must \
give the same scores to 1e-5 before it is measured. **Ours** looks the candidates up, reads the newest behaviours from the \
store, searches, attends, and answers with all that /score answers; its CPU is that of scorer and store. **The others** look \
the candidates up in a dict and find the graph's other inputs ready in memory; their CPU is that of all their processes. \
Every session has one thread. Ours and FastAPI are one process (FastAPI with its pool of threads), BentoML, LitServe and \
Ray Serve have {WORKERS} workers, each by the form its documentation shows, without a log of requests.

RATE requests a second for SECONDS s, open loop; then CONNECTIONS connections that always wait for an answer (`saturated`). \
Rounds: ROUNDS, in each every system is started, measured and ended; medians, and the median of the ratios to ours of the same \
round. `idle`: cores used when nobody asks; it is in the CPU of a request as well.
"""
FORWARDS_ARE = """\
## One user x CANDIDATES candidates, in process

**ours**: search and attend of the service on a bundle; the search has one thread. A model with a state reads a snapshot and \
16 behaviours after it, as a keeper leaves them; `nothing kept` folds the whole life. **FuxiCTR**: the model of the same paper \
in its zoo (LongCTR), torch in eager mode without gradients, a row a candidate with the sequence in each; sizes are ours (sdim: \
16 signatures of 3 bits, where the package's default is one of 4). **onnxruntime**: our own model, exported as it is written for \
a batch, the user's tensors repeated: keys projected per behaviour, DIN's unit over [q, k, q - k, q * k], the search as MatMul \
and TopK; its scores equal ours. What it costs to repeat the user is not in the times. Processes of their own, in turns \
of 0.3 s or one call; medians. `peak`: most memory the process had with two threads, `before`: before its first turn.
"""
SERVER_COLUMNS = (
    "model", "system", "p50 ms", "p99 ms", "CPU ms", "times ours: p50", "p99", "CPU", "saturated/s", "idle", "processes", "errors"
)  # fmt: skip
FORWARD_COLUMNS = (
    "model", "behaviours", "contender", "1 thread: ms", "CPU ms", "times ours: wall", "CPU", "2 threads: ms", "CPU ms",
    "times ours: wall", "CPU", "peak MB", "before",
)  # fmt: skip


def bench_peers(quick: bool = False, results: Path = RESULTS, folder: Path = FOLDER / "peers", sizes: Sizes = SIZES) -> Path:
    """Measure, and say where the page is. Cost: about 20 minutes, and the installation once.

    Args:
        quick: one short round and short lives, to see that all works; the page goes to `folder`.

    Raises:
        ValueError: too little memory is free, the environment cannot be installed, a system does not start, or gives other
            scores than ours.
    """
    free_gb = psutil.virtual_memory().available / 1e9
    if not quick and free_gb < NEEDED_GB:
        raise ValueError(f"{free_gb:.0f} GB of memory are free, {NEEDED_GB} are needed: a sequence for each candidate is large")
    python, head, world = peer_python(), facts(), BenchWorld(sizes)
    effort = QUICK if quick else FULL
    works = [replace(work, behaviours=min(work.behaviours, 500), repeats=2) for work in WORKS] if quick else WORKS
    head["versions"] |= _peers_versions()
    content: dict[str, Any] = {
        "schema": 1, **head, "effort": asdict(effort),
        "servers": measure_servers(world, python, folder, effort),
        "forwards": measure_forwards(world, python, folder, effort.candidates, works),
        "load_after": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    where = folder if quick else results
    where.mkdir(parents=True, exist_ok=True)
    (where / "peers.json").write_text(json.dumps(content, indent=1) + "\n")
    (where / "peers.md").write_text(page(content))
    return where / "peers.md"


def _peers_versions() -> dict[str, str]:
    pinned = dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    return {name: pinned[name] for name in MEASURED_BESIDE}


def page(content: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    effort = content["effort"]
    words = {
        "CANDIDATES": "candidates",
        "RATE": "per_s",
        "SECONDS": "seconds",
        "CONNECTIONS": "saturating_connections",
        "ROUNDS": "rounds",
    }
    texts = [SERVERS_ARE, FORWARDS_ARE]
    for word, name in words.items():
        texts = [text.replace(word, f"{effort[name]:g}") for text in texts]
    servers = table([*SERVER_COLUMNS], [_server(row) for row in content["servers"]])
    forwards = table([*FORWARD_COLUMNS], _forwards(content["forwards"]))
    head = f"# Against what one would take instead\n\n{head_line(content, 'make bench PART=peers')}"
    return "\n".join([head, f"Load after: {content['load_after']}.\n", texts[0], servers, texts[1], forwards])


def _server(row: dict[str, Any]) -> list[str]:
    figures, times = ("p50_ms", "p99_ms", "cpu_ms"), row["times_ours"]
    return [
        row["model"], row["system"], *(ms(row[name]) for name in figures), *(f"{times[name]:.2f}" for name in figures),
        f"{row['saturated_per_s']:.0f}", f"{row['idle_cores']:.3f}", f"{row['processes']:g}", str(row["errors"]),
    ]  # fmt: skip


def _forwards(rows: list[dict[str, Any]]) -> list[list[str]]:
    """One line for each contender, both numbers of threads in it."""
    found: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["model"], row["behaviours"], row["contender"]), {})[row["threads"]] = row
    return [
        [
            model, f"{behaviours:,}", contender, *(cell for threads in sorted(by) for cell in _timed(by[threads])),
            f"{by[max(by)]['peak_mb']:,}", f"{by[max(by)]['loaded_mb']:,}",
        ]
        for (model, behaviours, contender), by in found.items()
    ]  # fmt: skip


def _timed(row: dict[str, Any]) -> list[str]:
    return [ms(row["ms"]), ms(row["cpu_ms"]), f"{row['times_ours_ms']:.1f}", f"{row['times_ours_cpu_ms']:.1f}"]
