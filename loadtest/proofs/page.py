"""make prove: everything, in short form or long; reliability.md and reliability.json."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.measured_on import RESULTS, facts, table
from loadtest.proofs.drain import prove_drain
from loadtest.proofs.faults import prove_faults
from loadtest.proofs.fuzz import prove_fuzz
from loadtest.proofs.openapi import prove_openapi
from loadtest.proofs.overload import prove_overload
from loadtest.proofs.protocol import prove_protocol
from loadtest.proofs.soak import prove_soak
from loadtest.proofs.swaps import prove_swaps
from loadtest.proofs.system import FOLDER, PATIENT, Row, system
from loadtest.proofs.workers import prove_workers

SHORT = {
    "faults_s": 2.0,
    "overload_s": 8.0,
    "swaps": 20,
    "fuzz_s": 60.0,
    "openapi_cases": 20,
    "openapi_least": 300,
    "soak_s": 100.0,
}
LONG = {
    "faults_s": 5.0,
    "overload_s": 30.0,
    "swaps": 100,
    "fuzz_s": 600.0,
    "openapi_cases": 300,
    "openapi_least": 5_000,
    "soak_s": 1_800.0,
}
HEADS = {
    "overload": "Load held",
    "protocol": "The Open Inference Protocol, by tritonclient",
    "faults": "Faults of the store and its network survived",
    "swaps": "Versions swapped under load",
    "drain": "SIGTERM",
    "workers": "Several processes",
    "openapi": "Calls made from the OpenAPI description",
    "fuzz": "Raw sockets",
    "soak": "Time",
}

console = Console(stderr=True)


def prove(long: bool, only: str = "", results: Path = RESULTS, folder: Path = FOLDER) -> tuple[Path, bool]:
    """Prove what is asked for; where the page is, and whether all was met. Rows of other parts, and of the other form, stay; each
    part is written when it is done.

    Raises:
        ValueError: no such part.
    """
    chosen = only.split(",") if only else list(HEADS)
    if unknown := sorted(set(chosen) - set(HEADS)):
        raise ValueError(f"no part {', '.join(unknown)}; there are {', '.join(HEADS)}")
    page, met = results / "reliability.md", True
    for part in [name for name in HEADS if name in chosen]:
        console.print(f"{part} ...")
        head, started = facts(), time.perf_counter()
        rows = prove_part(part, LONG if long else SHORT, folder)
        for row in rows:
            console.print(
                f"{'met    ' if row.met else 'NOT MET'} {row.what}: {row.value}", highlight=False, markup=False, soft_wrap=True
            )
        met = met and all(row.met for row in rows)
        keep(results, f"{part}, {'long' if long else 'short'}", rows, head | {"took_s": time.perf_counter() - started})
    return page, met


def prove_part(part: str, sizes: Mapping[str, float], folder: Path) -> list[Row]:
    """The rows of one part."""
    proofs: dict[str, Callable[[], list[Row]]] = {
        "overload": lambda: prove_overload(folder, sizes["overload_s"]),
        "protocol": lambda: prove_protocol(folder),
        "faults": lambda: prove_faults(folder, sizes["faults_s"]),
        "drain": lambda: prove_drain(folder),
        "workers": lambda: prove_workers(folder),
        "soak": lambda: prove_soak(folder, sizes["soak_s"]),
    }
    if part in proofs:
        return proofs[part]()
    with system(folder, PATIENT, direct=True) as one:
        if part == "swaps":
            return prove_swaps(one, int(sizes["swaps"]))
        if part == "openapi":
            return prove_openapi(one, int(sizes["openapi_cases"]), int(sizes["openapi_least"]))
        return prove_fuzz(one, sizes["fuzz_s"])


def keep(results: Path, name: str, rows: list[Row], head: Mapping[str, Any]) -> None:
    """Put the rows of one part in place of its former ones, in both files."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / "reliability.json"
    parts = json.loads(path.read_text())["parts"] if path.is_file() else {}
    parts[name] = {**head, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps({"schema": 1, "parts": parts}, indent=1) + "\n")
    (results / "reliability.md").write_text(page_of(parts))


def page_of(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, in the order of the parts."""
    text = "# Reliability\n\n`make prove` measures the short forms again, `python -m loadtest prove --long` the long ones, "
    text += "`--only` a part. n: requests, calls, pieces or cases. **no**: not met.\n"
    for part, head in HEADS.items():
        for name in (f"{part}, long", f"{part}, short"):
            if name in parts:
                text += f"\n## {head} ({name})\n\n{_made(parts[name])}\n\n" + _table(parts[name]["rows"])
    return text


def _made(part: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in part["versions"].items())
    return (
        f"{part['made']}, {part['machine']}, load before {part['load_before']}, commit {part['commit']}, "
        f"{part['took_s']:.0f} s; one run. With {versions}."
    )


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [row["what"], row["value"], row["wanted"], f"{row['n']:,}", f"{row['seconds']:.1f}", "yes" if row["met"] else "**no**"]
        for row in rows
    ]
    return table(["what", "measured", "wanted", "n", "seconds", "met"], cells)
