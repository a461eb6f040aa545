"""make bench-check: has a stage become slower than the kept baseline?

A few rows, one request at a time, so that nothing waits for anything: in blocks that take turns, each with a piece of
work that never changes (`reference_ms`). A block has the median of its requests; of the blocks the lower quartile counts,
since what disturbs one only makes it slower. It is compared in units of the reference of the same run, so that another
clock of the processor cancels; beside each stands its noise, which is how far the blocks are apart.
"""

import http.client
import json
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from loadtest.bench_setup import bundles_of
from loadtest.bench_world import BenchWorld
from loadtest.measured_on import facts, reference_ms
from loadtest.service_process import cpu_s
from loadtest.speed_point import RunningScorer, running_scorer, stage_times
from loadtest.speed_table import FOLDER, RESULTS, SIZES, bench_store
from loadtest.speed_work import DEFAULT, TABLE, USERS, Work, bodies
from service.metrics import STAGES

BASELINE = RESULTS / "baseline.json"
ROWS = [
    ("short", "din", 50),
    ("state", "sdim", 10_000),
    ("tree", "sim_hard", 10_000),
    ("scan", "eta", 10_000),
    ("scan", "twin", 10_000),
]
BLOCKS, A_BLOCK = 20, 40  # requests of a row in a block
PATIENT = {"CTR_TIMEOUT_MS": "5000", "CTR_STORE_TIMEOUT_MS": "1000"}  # a busy machine shows as noise, not as an error
SLOWER, LEAST_MS = 1.10, 0.05  # what fails: beyond both

console = Console(stderr=True)
Figures = dict[str, dict[str, float]]  # "row stage" -> ms, the same in references, noise


def check_stages(write: bool, baseline: Path = BASELINE, folder: Path = FOLDER) -> bool:
    """Measure and compare, or with `write` keep what was measured; whether nothing became slower. Cost: about four minutes.

    Raises:
        ValueError: there is no baseline.
    """
    if not write and not baseline.is_file():
        raise ValueError(f"{baseline}: missing; `python -m loadtest bench-check --write` on a quiet machine keeps one")
    works = [work for work in TABLE if (work.work, work.model, work.behaviours) in ROWS and work.serving is DEFAULT]
    world = BenchWorld(SIZES)
    requests = {_name(work): bodies(world, work, USERS[work.life], A_BLOCK) for work in works}
    bundles, patient = bundles_of(world, DEFAULT, folder), replace(DEFAULT, settings=PATIENT)
    with bench_store(world, works, USERS, folder) as url, running_scorer(patient, bundles, url) as scorer:
        figures = in_blocks(scorer, requests)
    found = {name: facts()[name] for name in ("made", "machine", "commit", "load_before")} | {"figures": figures}
    if write:
        baseline.write_text(json.dumps(found, indent=1) + "\n")
        console.print(f"{baseline}: written")
        return True
    kept = json.loads(baseline.read_text())
    slower, table = compared(kept["figures"], figures)
    table.caption = f"baseline: {kept['made']}, {kept['machine']}, commit {kept['commit']}; now: {found['machine']}"
    Console().print(table)
    return not slower


def in_blocks(scorer: RunningScorer, requests: dict[str, list[bytes]], blocks: int = BLOCKS) -> Figures:
    """Each row's stages and the scorer's CPU per request; the first block warms up and is dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", scorer.port, timeout=30)
    took: dict[str, list[float]] = {}
    reference = []
    for block in range(blocks + 1):
        for name, of_row in requests.items():
            before, headers = cpu_s(scorer.pid), []
            for body in of_row:
                headers.append(_ask(connection, body))
            used = (cpu_s(scorer.pid) - before) * 1000 / len(of_row)
            times = np.median(stage_times(headers), axis=0)
            for what, ms in zip((*STAGES, "total", "cpu"), (*times.tolist(), used), strict=True):
                took.setdefault(f"{name} {what}", []).append(ms)
        reference.append(reference_ms())
        console.print(f"block {block} of {blocks}: reference {reference[-1]:.2f} ms", highlight=False)
    connection.close()
    figures: Figures = {"reference": _figure(reference[1:], 1.0)}
    unit = figures["reference"]["ms"]
    return figures | {name: _figure(of_blocks[1:], unit) for name, of_blocks in took.items()}


def compared(kept: Figures, now: Figures) -> tuple[list[str], Table]:
    """What became slower by more than a tenth, 0.05 ms and its own noise; and a table of all."""
    table, slower = Table("row", "stage", "baseline ms", "now ms", "ratio", "noise", "slower"), []
    for name in [name for name in now if name in kept and name != "reference"]:
        before, after = kept[name], now[name]
        ratio = after["relative"] / before["relative"] if before["relative"] else 1.0
        worse = (after["relative"] - before["relative"]) * now["reference"]["ms"]
        noise = max(before["noise"], after["noise"])
        said = ""
        if ratio > SLOWER and worse > LEAST_MS:
            said = "SLOWER" if ratio - 1 > noise else "noisy"
        slower += [name] if said == "SLOWER" else []
        row, _, stage = name.rpartition(" ")
        table.add_row(row, stage, f"{before['ms']:.3f}", f"{after['ms']:.3f}", f"{ratio:.2f}", f"{noise:.0%}", said)
    return slower, table


def _figure(blocks: list[float], unit: float) -> dict[str, float]:
    """Lower quartile in ms and in references, and the noise: half the distance of the quartiles, as a share of the median."""
    low, middle, high = quantiles(blocks, n=4, method="inclusive") if len(blocks) > 1 else blocks * 3
    noise = (high - low) / 2 / middle if middle else 0.0
    return {"ms": round(low, 4), "relative": round(low / unit, 6), "noise": round(noise, 4)}


def _ask(connection: http.client.HTTPConnection, body: bytes) -> str:
    connection.request("POST", "/score", body, {"content-type": "application/json"})
    response = connection.getresponse()
    content: Any = response.read()
    if response.status != 200 or b'"degraded":[]' not in content:
        raise ValueError(f"status {response.status}: {content[:200]!r}")
    return response.headers["server-timing"]


def _name(work: Work) -> str:
    return f"{work.work} {work.model} {work.behaviours}"
