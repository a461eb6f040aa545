"""make bench PART=curves: latency against the offered rate, the length of the life and the number of candidates; stage times.

Once, 20 s a point, four models. Writes curves.json, a page and four plots; the speed table has the figures to quote.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from export.report.machine import cores
from loadtest.measured_on import FOLDER, RESULTS, facts, table
from loadtest.open_loop import SLOWER_THAN_ANY_LIMIT_MS
from loadtest.served.bench_setup import bundles_of
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.speed.curve_plots import LIMIT_MS, Knees, Row, draw_plots
from loadtest.speed.page import head_line, ms
from loadtest.speed.point import Length, Point, RunningScorer, check, measure, running_scorer
from loadtest.speed.table import SIZES, bench_store
from loadtest.speed.work import DEFAULT, USERS, Work, bodies

LENGTH = Length(seconds=20, most=100_000, warm_up_s=2)
WORKS = {"sim_hard": "tree", "eta": "scan", "twin": "scan", "sdim": "state"}
LIFE, CANDIDATES = 10_000, 500
SHARES = (0.25, 0.5, 0.7, 0.85, 1.0, 1.2)  # of the rate at which the cores would have nothing left
SLOW_PER_S = 10  # of the points against lives and candidates
LIVES, NUMBERS = (1_000, 54_000, 100_000), (100, 250, 1_000)
KNEE = 3  # times the 99th percentile at the lowest rate

console = Console(stderr=True)


def bench_curves(
    results: Path = RESULTS, folder: Path = FOLDER, sizes: Sizes = SIZES, models: Sequence[str] = tuple(WORKS),
    length: Length = LENGTH, users: dict[int, int] = USERS,
) -> Path:  # fmt: skip
    """Measure, and say where the figures are. Cost: 13 points a model."""
    world, head, points = BenchWorld(sizes), facts(), list[Row]()
    lives = [life for life in (LIFE, *LIVES) if life in users]
    works = [Work(WORKS[model], model, life, SLOW_PER_S, life=life, serving=DEFAULT) for model in models for life in lives]
    bundles = bundles_of(world, DEFAULT, folder)
    with bench_store(world, works, users, folder) as url, running_scorer(DEFAULT, bundles, url) as scorer:
        for work in works:
            points += _points(world, scorer, work, users[work.life], length)
    knees = {model: knee([row for row in points if row["model"] == model and row["curve"] == "rate"]) for model in models}
    results.mkdir(parents=True, exist_ok=True)
    path = results / "curves.json"
    path.write_text(json.dumps({"schema": 1, **head, "knee_per_s": knees, "points": points}, indent=1) + "\n")
    plots = draw_plots(results, points, knees, models)
    (results / "curves.md").write_text(_page(points, knees, head, plots))
    return path


def _points(world: BenchWorld, scorer: RunningScorer, work: Work, users: int, length: Length) -> list[Row]:
    """The points of one model and life: the middle one on all curves, and those that only this life has."""

    def at(curves: str, work: Work) -> Row:
        requests = bodies(world, work, users)
        check(scorer, requests[0])
        point = measure(scorer, requests, work.per_s, length)
        console.print(
            f"{curves}: {work.model} {work.life:,} x {work.candidates} at {work.per_s:g}/s: {ms(point.p99_ms)} ms",
            highlight=False,
        )
        return _row(curves, work, point)

    slow = at("behaviours", work)
    if work.life != LIFE:
        return [slow]
    numbers = [at("candidates", replace(work, candidates=number)) for number in NUMBERS]
    most = cores() * 1000 / slow["cpu_ms"]
    rates = [at("rate", replace(work, per_s=round(share * most, 1))) for share in SHARES]
    return [slow, slow | {"curve": "candidates"}, *numbers, *rates]


def _row(curve: str, work: Work, point: Point) -> Row:
    asked = {"model": work.model, "behaviours": work.life, "candidates": work.candidates, "offered_per_s": work.per_s}
    return {"curve": curve, **asked, **asdict(point)}


def knee(rates: Sequence[Row]) -> float | None:
    """The highest rate up to which p99 stays within three times that at the lowest rate; None: no such."""
    ordered = sorted(rates, key=lambda row: row["offered_per_s"])
    within = None
    for row in ordered:
        if row["p99_ms"] > KNEE * ordered[0]["p99_ms"] or row["p99_ms"] >= SLOWER_THAN_ANY_LIMIT_MS:
            break
        within = row["offered_per_s"]
    return within


def _page(points: Sequence[Row], knees: Knees, head: Row, plots: Sequence[str]) -> str:
    names = ["curve", "model", "behaviours", "candidates", "offered_per_s", "n", "errors", "p50_ms", "p99_ms", "cpu_ms"]
    rows = [[ms(row[name]) if name.endswith("_ms") else str(row[name]) for name in names] for row in points]
    found = ", ".join(f"{model} {at:g}/s" if at is not None else f"{model} none" for model, at in knees.items())
    return (
        f"# Curves\n\n{head_line(head, 'make bench PART=curves')}\n20 s a point, once; {LIFE:,} behaviours and {CANDIDATES} "
        f"candidates where they do not vary, {SLOW_PER_S} requests a second where the rate does not. Grey: {LIMIT_MS} ms, and "
        f"the knee, up to which p99 is within {KNEE} times that at the lowest rate: {found}.\n\n"
        + "".join(f"![{plot}]({plot})\n\n" for plot in plots)
        + table([name.replace("_", " ") for name in names], rows)
    )
