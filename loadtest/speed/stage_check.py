"""make bench-check: has a stage become slower than it was at an earlier commit?

The earlier code and the present one run beside each other, each with a scorer and a store of its own, and answer the same
requests one at a time, in blocks that take turns: what other work or the processor's clock does to one, it does to the other.
A block has the median of its requests; the median of the blocks' ratios counts, with the interval it is in 19 times of 20.
Times of two days are not compared: a machine that others share in differs by half within an hour.
"""

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest.measured_on import FOLDER, RESULTS
from loadtest.served.bench_setup import bundles_of
from loadtest.served.bench_world import BenchWorld
from loadtest.service_process import cpu_s
from loadtest.speed.earlier_code import scorer_of, tree_of
from loadtest.speed.point import RunningScorer, running_scorer, stage_times
from loadtest.speed.table import SIZES, bench_store
from loadtest.speed.work import DEFAULT, TABLE, USERS, bodies
from service.metrics import STAGES

ROWS = [
    ("short", "din", 50),
    ("state", "sdim", 10_000),
    ("tree", "sim_hard", 10_000),
    ("scan", "eta", 10_000),
    ("scan", "twin", 10_000),
]
WORKS = [work for work in TABLE if (work.work, work.model, work.behaviours) in ROWS and work.serving is DEFAULT]
BLOCKS, A_BLOCK = 24, 40  # requests of a row and a side in a block
PATIENT = {"CTR_TIMEOUT_MS": "5000", "CTR_STORE_TIMEOUT_MS": "1000"}  # a busy machine shows as noise, not as an error
SLOWER, LEAST_MS = 1.10, 0.05  # what fails: beyond both
CLOCK_MS = 0.001  # of Server-Timing: less is not told apart

console = Console(stderr=True)
Blocks = dict[str, NDArray[np.float64]]  # "row stage" -> ms [2: earlier and now, blocks]


@dataclass(frozen=True)
class Compared:
    """A stage of a row: medians of the blocks in ms, the median of their ratios and what it surely exceeds."""

    earlier_ms: float
    now_ms: float
    ratio: float
    at_least: float

    @property
    def slower(self) -> str:
        """SLOWER = it is; noisy = it seems so, but the blocks do not agree; else empty."""
        if self.ratio <= SLOWER or self.now_ms - self.earlier_ms <= LEAST_MS:
            return ""
        return "SLOWER" if self.at_least > 1 else "noisy"


def check_stages(against: str = "", folder: Path = FOLDER, table: Path = RESULTS / "table.json") -> bool:
    """Measure both and show them; whether nothing became slower. Cost: four minutes, and four more for a commit's first time.

    Args:
        against: the earlier commit; empty = the one whose speed `table` has.

    Raises:
        ValueError: no such commit, or one that has no `bench-scorer` yet.
    """
    commit = against or str(json.loads(table.read_text())["commit"]).removesuffix("-dirty")
    tree, world = tree_of(commit, folder / "earlier"), BenchWorld(SIZES)
    requests = {f"{work.work} {work.model} {work.behaviours}": bodies(world, work, USERS[work.life], A_BLOCK) for work in WORKS}
    with scorer_of(tree) as earlier, scorer_of(Path.cwd()) as now:
        compared = {name: compare(blocks) for name, blocks in in_blocks([earlier, now], requests).items()}
    Console().print(_table(compared, commit))
    return all(one.slower != "SLOWER" for one in compared.values())


def serve_stages(folder: Path = FOLDER) -> None:
    """Start a scorer with a store for the checked rows, say its process and port on stdout as JSON, and stay until stdin ends."""
    world, patient = BenchWorld(SIZES), replace(DEFAULT, settings=PATIENT)
    bundles = bundles_of(world, DEFAULT, folder)
    with bench_store(world, WORKS, USERS, folder) as url, running_scorer(patient, bundles, url) as scorer:
        print(json.dumps(asdict(scorer)), flush=True)
        sys.stdin.read()


def in_blocks(sides: Sequence[RunningScorer], requests: Mapping[str, Sequence[bytes]], blocks: int = BLOCKS) -> Blocks:
    """Each row's stages, total and the scorer's CPU per request, of both sides; the first block warms up and is dropped."""
    connections = [http.client.HTTPConnection("127.0.0.1", side.port, timeout=30) for side in sides]
    took = {f"{row} {what}": np.zeros((len(sides), blocks + 1)) for row in requests for what in (*STAGES, "total", "cpu")}
    for block in track(range(blocks + 1), "blocks", console=console):
        for row, of_row in requests.items():
            for side in sorted(range(len(sides)), reverse=block % 2 == 1):
                before = cpu_s(sides[side].pid)
                times = np.median(stage_times([_ask(connections[side], body) for body in of_row]), axis=0)
                used = (cpu_s(sides[side].pid) - before) * 1000 / len(of_row)
                for what, ms in zip((*STAGES, "total", "cpu"), (*times.tolist(), used), strict=True):
                    took[f"{row} {what}"][side, block] = ms
    for connection in connections:
        connection.close()
    return {name: times[:, 1:] for name, times in took.items()}


def compare(blocks: NDArray[np.float64]) -> Compared:
    """What blocks that took turns say, in ms [2: earlier and now, blocks].

    `at_least` is the lower end of the interval of order statistics that holds the median 19 times of 20 (normal approximation of
    the signs); of five blocks and fewer it is their smallest ratio.
    """
    earlier, now = np.maximum(blocks, CLOCK_MS)
    ratios = np.sort(now / earlier)
    below = max(int(len(ratios) / 2 - 0.98 * np.sqrt(len(ratios))), 0)
    return Compared(float(np.median(earlier)), float(np.median(now)), float(np.median(ratios)), float(ratios[below]))


def _table(compared: Mapping[str, Compared], commit: str) -> Table:
    table = Table("row", "stage", f"{commit} ms", "now ms", "ratio", "at least", "slower")
    for name, one in compared.items():
        row, _, stage = name.rpartition(" ")
        table.add_row(
            row, stage, f"{one.earlier_ms:.3f}", f"{one.now_ms:.3f}", f"{one.ratio:.2f}", f"{one.at_least:.2f}", one.slower
        )
    return table


def _ask(connection: http.client.HTTPConnection, body: bytes) -> str:
    connection.request("POST", "/score", body, {"content-type": "application/json"})
    response = connection.getresponse()
    content: Any = response.read()
    if response.status != 200 or b'"degraded":[]' not in content:
        raise ValueError(f"status {response.status}: {content[:200]!r}")
    return response.headers["server-timing"]
