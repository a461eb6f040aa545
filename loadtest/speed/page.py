"""The speed table as files: table.json, whose rows are those of the table and nothing else, and table.md for people.

The latter has targets, the spread of the repeats, stage times and the generator's own part beside the figures.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.measured_on import table
from loadtest.open_loop import SLOWER_THAN_ANY_LIMIT_MS
from loadtest.speed.point import Length, Point
from loadtest.speed.work import Work
from service.metrics import STAGES

HOW = f"""\
Rounds: ROUNDS; medians of them and (smallest-largest). Open loop, latency from the intended sending; generator, scorer and \
store on these cores; a point is SECONDS s or MOST requests, whichever comes first, after a warm-up. A request that is refused, \
not answered or degraded is an error and counts as {SLOWER_THAN_ANY_LIMIT_MS:,.0f} ms. CPU is that of the scorer's process, per \
request. Users, categories and items are made up by Zipf laws; weights are random, which speed does not depend on. \
Reference: work that never changes, just before each point; where it took longer, the machine was slower.
"""
STAGES_ARE = """\
## Where the time goes

Median of each stage of the server's own time in ms (`Server-Timing`). In every answer the six sum to the total: the \
largest difference is in `apart`. `outside`: the median of what is beyond it. `glue`: the median of all but `behaviours`, \
`search` and `attend`; under 1.5 ms is wanted for 500 candidates. `searched`: behaviours, the first answer's.
"""
GENERATOR_IS = """\
## The generator's own part

Cores that it used, and how late it sent, 99th percentile in ms; the lateness is in the latencies.
"""


@dataclass(frozen=True)
class Measured:
    """A row and its repeats."""

    work: Work
    searched: int  # what the scorer says of its first request
    points: list[Point]

    def middle(self, name: str) -> float:
        """Median of the repeats."""
        return float(median(getattr(point, name) for point in self.points))

    def spread(self, name: str) -> str:
        """Smallest to largest of the repeats."""
        values = [getattr(point, name) for point in self.points]
        return f"{ms(min(values))}-{ms(max(values))}"

    @property
    def failed(self) -> bool:
        """Whether half of the requests were errors."""
        return self.middle("p50_ms") >= SLOWER_THAN_ANY_LIMIT_MS

    @property
    def errors(self) -> str:
        """How many, and of which kinds."""
        kinds = sum((Counter(point.kinds) for point in self.points), Counter())
        said = ", ".join(f"{kind}: {number:,}" for kind, number in sorted(kinds.items()))
        return f"{sum(point.errors for point in self.points):,}" + (f" ({said})" if said else "")

    def row(self) -> dict[str, Any]:
        """As table.json has it: medians of the repeats, `n` and `errors` of all of them."""
        return {
            "work": self.work.work, "model": self.work.model, "behaviours": self.work.behaviours,
            "offered_per_s": self.work.per_s, "n": sum(point.n for point in self.points), "p50_ms": self.middle("p50_ms"),
            "p99_ms": self.middle("p99_ms"), "cpu_ms": self.middle("cpu_ms"),
            "errors": sum(point.errors for point in self.points),
        }  # fmt: skip


def write(
    measured: Sequence[Measured], head: dict[str, Any], results: Path, length: Length, command: str = "make bench", note: str = ""
) -> Path:
    """table.json and table.md, which says `note` before all figures."""
    results.mkdir(parents=True, exist_ok=True)
    content = {"schema": 1, "machine": head["machine"], "commit": head["commit"], "rows": [one.row() for one in measured]}
    (results / "table.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / "table.md").write_text(_page(measured, head, length, command, note))
    return results / "table.md"


def head_line(head: dict[str, Any], command: str) -> str:
    """Where, when and how, for the top of a page."""
    versions = ", ".join(f"{name} {number}" for name, number in head["versions"].items())
    where = f"{head['made']}, {head['machine']}, load before {head['load_before']}, commit {head['commit']}"
    return f"{where}; {versions}. `{command}` measures again.\n"


def _page(measured: Sequence[Measured], head: dict[str, Any], length: Length, command: str, note: str) -> str:
    names, rounds = ["work", "model", "behaviours"], max(len(one.points) for one in measured)
    how = HOW.replace("ROUNDS", str(rounds)).replace("SECONDS", f"{length.seconds:g}").replace("MOST", f"{length.most:,}")
    stages = [*STAGES, "mean total", "apart", "outside", "glue", "searched"]
    results = ["offered/s", "n", "p50 ms", "p99 ms", "target", "CPU ms", "target", "errors", "reference ms", "met"]
    parts = [
        f"# Speed\n\n{head_line(head, command)}", note, how,
        table([*names, *results], [_result(one) for one in measured]), _ratios(measured), STAGES_ARE,
        table([*names, *stages], [_stages(one) for one in measured]), GENERATOR_IS,
        table([*names, "cores", "late"], [_generator(one) for one in measured]),
    ]  # fmt: skip
    return "\n".join(filter(None, parts))


def _generator(one: Measured) -> list[str]:
    return [*_names(one.work), f"{one.middle('generator_cpu'):.3f}", ms(one.middle("late_p99_ms"))]


def _result(one: Measured) -> list[str]:
    work, row = one.work, one.row()
    wanted = {"p99_ms": work.p99_ms, "cpu_ms": work.cpu_ms}
    met = {row[name] <= limit for name, limit in wanted.items() if limit is not None}
    p50, p99, cpu = (f"{ms(row[name])} ({one.spread(name)})" for name in ("p50_ms", "p99_ms", "cpu_ms"))
    p99_limit, cpu_limit = ("" if limit is None else f"{limit:g}" for limit in wanted.values())
    said = "" if not met else "yes" if all(met) else "no"
    return [
        *_names(work), f"{work.per_s:g}", f"{row['n']:,}", p50, p99, p99_limit, cpu, cpu_limit, one.errors,
        f"{ms(one.middle('reference_ms'))} ({one.spread('reference_ms')})", said,
    ]  # fmt: skip


def _ratios(measured: Sequence[Measured]) -> str:
    """How the longest lives compare with shorter ones of the same work and model."""
    lines, groups = [], {(one.work.work, one.work.model): one for one in measured if one.work.life == 10_000}
    for one in measured:
        shorter = groups.get((one.work.work, one.work.model))
        if one.work.life == 100_000 and shorter is not None and one.work.per_s == shorter.work.per_s and not one.failed:
            ratio = one.middle("p50_ms") / shorter.middle("p50_ms")
            lines.append(f"- {one.work.work}, {one.work.model}: p50 at 100,000 behaviours is {ratio:.2f} times that at 10,000.\n")
    return "".join(lines)


def _stages(one: Measured) -> list[str]:
    medians = [median(point.stage_medians[stage] for point in one.points) for stage in STAGES]
    total, outside, glue = (ms(one.middle(name)) for name in ("total_ms", "outside_ms", "glue_ms"))
    apart = max(point.unaccounted_ms for point in one.points)
    return [*_names(one.work), *map(ms, medians), total, f"{apart:.3f}", outside, glue, f"{one.searched:,}"]


def _names(work: Work) -> list[str]:
    return [work.work, work.model, f"{work.behaviours:,}"]


def ms(value: float) -> str:
    """A time, three digits of it."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"
