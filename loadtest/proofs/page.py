"""make prove: everything, in short form or long; reliability.md and reliability.json."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.measured_on import facts, table
from loadtest.proofs.ends import prove_drain, prove_killed_worker
from loadtest.proofs.faults import prove_faults
from loadtest.proofs.fuzz import prove_fuzz
from loadtest.proofs.overload import prove_overload
from loadtest.proofs.soak import prove_soak
from loadtest.proofs.swaps import prove_swaps
from loadtest.proofs.system import FOLDER, Row, System, system
from loadtest.speed_table import RESULTS

SHORT = {"swaps": 20, "soak_s": 120.0, "fuzz_s": 60.0}
LONG = {"swaps": 100, "soak_s": 1_800.0, "fuzz_s": 600.0}

console = Console(stderr=True)


def prove(long: bool, only: str = "", results: Path = RESULTS, folder: Path = FOLDER) -> tuple[Path, bool]:
    """Prove what is asked for; where the page is, and whether all was met. Parts that were not asked for keep their rows."""
    sizes, head = LONG if long else SHORT, facts()
    within: dict[str, Callable[[System], list[Row]]] = {
        "faults": prove_faults,
        "overload": prove_overload,
        "swaps": lambda one: prove_swaps(one, int(sizes["swaps"])),
        "fuzz": lambda one: prove_fuzz(one, sizes["fuzz_s"]),
        "soak": lambda one: prove_soak(one, sizes["soak_s"]),
    }
    alone: dict[str, Callable[[Path], list[Row]]] = {"drain": prove_drain, "worker": prove_killed_worker}
    chosen = only.split(",") if only else [*within, *alone]
    if unknown := sorted(set(chosen) - {*within, *alone}):
        raise ValueError(f"no part {', '.join(unknown)}; there are {', '.join([*within, *alone])}")
    found: dict[str, list[Row]] = {}
    settings = {"CTR_QUEUE_MS": "15"}  # for answers within 30 ms
    for part in [name for name in within if name in chosen]:
        with system(folder, **(settings if part == "overload" else {"CTR_QUEUE_MS": "1000"})) as one:
            found[part] = _told(within[part](one))
    for part in [name for name in alone if name in chosen]:
        found[part] = _told(alone[part](folder))
    return _write(found, head, long, results)


def _told(rows: list[Row]) -> list[Row]:
    for row in rows:
        console.print(f"{'met    ' if row.met else 'NOT MET'} {row.what}: {row.value}", highlight=False, markup=False)
    return rows


def _write(found: dict[str, list[Row]], head: dict[str, object], long: bool, results: Path) -> tuple[Path, bool]:
    """Both files; rows of parts that were proved earlier stay, with when and where that was."""
    results.mkdir(parents=True, exist_ok=True)
    path = results / "reliability.json"
    parts = json.loads(path.read_text())["parts"] if path.is_file() else {}
    form = "long" if long else "short"
    for part, rows in found.items():
        parts[f"{part}, {form}"] = {**head, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps({"schema": 1, "parts": parts}, indent=1) + "\n")
    page = results / "reliability.md"
    page.write_text(_page(parts))
    return page, all(row.met for rows in found.values() for row in rows)


def _page(parts: dict[str, dict[str, Any]]) -> str:
    text = "# Reliability\n\n`make prove` measures again, `python -m loadtest prove --long` the long forms. "
    text += "n: requests, calls or cases.\n"
    for name, part in sorted(parts.items()):
        text += (
            f"\n## {name}\n\n{part['made']}, {part['machine']}, load before {part['load_before']}, commit {part['commit']}.\n\n"
        )
        rows = [
            [
                row["what"],
                row["value"],
                row["wanted"],
                f"{row['n']:,}",
                f"{row['seconds']:.1f}",
                "yes" if row["met"] else "**no**",
            ]
            for row in part["rows"]
        ]
        text += table(["what", "measured", "wanted", "n", "seconds", "met"], rows)
    return text
