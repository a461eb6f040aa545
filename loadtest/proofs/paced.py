"""A constant rate by a compiled generator: wrk where it is installed, else our own, which needs more of its core."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.open_loop import Job, offer_apart

SCRIPT = Path(__file__).with_name("paced.lua")
CONNECTIONS = 256  # so many are in flight at most: a server that refuses what it cannot do never has them all
ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


@dataclass(frozen=True)
class Paced:
    """What became of a constant rate, by answer."""

    took_ms: NDArray[np.float64]  # [N] from the sending to the whole answer
    status: NDArray[np.int64]  # [N]
    whole: NDArray[np.bool_]  # [N] not degraded
    errors: int  # requests without an answer
    cpu_s: float  # of the generator
    ended_s: float  # when the last was sent, by time.perf_counter
    generator: str


def offer_paced(port: int, bodies: Sequence[bytes], per_s: float, seconds: float) -> Paced:
    """Send requests at a constant rate for so long.

    Raises:
        subprocess.CalledProcessError: the generator failed.
    """
    return by_wrk(port, bodies, per_s, seconds) if shutil.which("wrk") else by_ours(port, bodies, per_s, seconds)


def by_wrk(port: int, bodies: Sequence[bytes], per_s: float, seconds: float) -> Paced:
    """With wrk; what is in flight when the time is up is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        sent, answers = Path(folder) / "bodies", Path(folder) / "answers"
        sent.write_bytes(b"\n".join(bodies))
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--"]
        before = os.times()
        done = subprocess.run([*command, f"{per_s:.3f}", sent, answers], stdout=subprocess.PIPE, check=True, text=True)
        after = os.times()
        lines = np.loadtxt(answers, ndmin=2).reshape(-1, 4)
    failed = ERRORS.search(done.stdout)
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Paced(
        lines[:, 1], lines[:, 2].astype(np.int64), lines[:, 3] == 1, sum(map(int, failed.groups())) if failed else 0, cpu_s,
        float(lines[:, 0].max(initial=0)), "wrk",
    )  # fmt: skip


def by_ours(port: int, bodies: Sequence[bytes], per_s: float, seconds: float) -> Paced:
    """With the generator of the benchmarks."""
    ended_s = time.perf_counter() + seconds  # or a little later: its process has to start
    outcome = offer_apart(Job(port, bodies, per_s, int(per_s * seconds), connections=CONNECTIONS))
    there = outcome.status > 0
    took_ms = (outcome.answer_ms - outcome.late_ms)[there]
    whole = ~outcome.degraded[there] & (outcome.status[there] == 200)
    return Paced(took_ms, outcome.status[there], whole, int((~there).sum()), outcome.cpu_s, ended_s, "ours (Python)")
