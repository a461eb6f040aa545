"""Plots of the curves, as SVG: latency against rate, lives and candidates; stage times."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from loadtest.open_loop import SLOWER_THAN_ANY_LIMIT_MS
from service.metrics import STAGES

LIMIT_MS = 30
Row = dict[str, Any]
Knees = dict[str, float | None]


def draw_plots(folder: Path, points: Sequence[Row], knees: Knees, models: Sequence[str]) -> list[str]:
    """Write curves_<name>.svg, a panel for each model; the files' names."""
    for name in PLOTS:
        _plot(folder / _file(name), PLOTS[name], points, knees, models)
    return [_file(name) for name in PLOTS]


def _file(name: str) -> str:
    return f"curves_{name}.svg"


def _plot(path: Path, draw: Callable[..., None], points: Sequence[Row], knees: Knees, models: Sequence[str]) -> None:
    matplotlib.rcParams["svg.hashsalt"] = "longtrail"
    figure, axes = plt.subplots(1, len(models), figsize=(3.4 * len(models), 3.2), squeeze=False, constrained_layout=True)
    for ax, model in zip(axes[0], models, strict=True):
        draw(ax, [row for row in points if row["model"] == model], knees[model])
        ax.set_title(model)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _against(ax: Axes, rows: list[Row], curve: str, name: str, label: str) -> None:
    """p50 and p99 of a curve; a point with too many errors stands at the top edge."""
    chosen = sorted((row for row in rows if row["curve"] == curve), key=lambda row: row[name])
    real = [row[p] for row in chosen for p in ("p50_ms", "p99_ms") if row[p] < SLOWER_THAN_ANY_LIMIT_MS]
    top = 1.5 * max(real, default=LIMIT_MS)
    for p in ("p50_ms", "p99_ms"):
        ax.plot([row[name] for row in chosen], [min(row[p], top) for row in chosen], marker="o", label=p.removesuffix("_ms"))
    ax.axhline(LIMIT_MS, color="grey", linewidth=0.8, linestyle=":")
    ax.set(xlabel=label, ylabel="ms", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))  # 10, 20, 30, 50 ms, not powers of ten
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())


def _rate(ax: Axes, rows: list[Row], at: float | None) -> None:
    _against(ax, rows, "rate", "offered_per_s", "offered requests a second")
    if at is not None:
        ax.axvline(at, color="grey", linewidth=0.8)


def _behaviours(ax: Axes, rows: list[Row], _: float | None) -> None:
    _against(ax, rows, "behaviours", "behaviours", "behaviours of the user")
    ax.set_xscale("log")


def _candidates(ax: Axes, rows: list[Row], _: float | None) -> None:
    _against(ax, rows, "candidates", "candidates", "candidates")


def _stages(ax: Axes, rows: list[Row], _: float | None) -> None:
    chosen = sorted((row for row in rows if row["curve"] == "behaviours"), key=lambda row: row["behaviours"])
    names, bottom = [f"{row['behaviours'] // 1000}k" for row in chosen], [0.0] * len(chosen)
    for stage in STAGES:
        heights = [row["stages"][stage] for row in chosen]
        ax.bar(names, heights, bottom=bottom, label=stage)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    ax.set(xlabel="behaviours of the user", ylabel="ms, mean of each stage")


PLOTS: dict[str, Callable[..., None]] = {
    "rate": _rate, "behaviours": _behaviours, "candidates": _candidates, "stages": _stages
}  # fmt: skip
