"""The report's plots, as inline SVG that also reads in print and in black and white.

Every series has a marker and a dash of its own beside its colour; text stays text; nothing refers to
another host.
"""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

STYLE: Any = {
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "longtrail",  # the same plot is the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
}
COLOURS = ("#000000", "#0b4f8a", "#b03a00", "#4d7d18", "#7a2a86", "#8a6a00", "#008080")  # dark enough for a grey printer
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
PANELS_A_ROW = 5


@dataclass(frozen=True)
class Series:
    """One line of a plot; a None leaves its place empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


def lines(series: list[Series], x_label: str, y_label: str, ticks: Sequence[str] = (), percent: bool = False) -> str:
    """Lines over numbers, or over the places 0, 1, .. that `ticks` name."""
    with _style():
        figure = Figure(figsize=(7.4, 4.2), layout="constrained")
        axes = figure.subplots()
        for i, one in enumerate(series):
            axes.plot(
                one.x, _numbers(one.y), label=one.name, color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)],
                marker=MARKERS[i % len(MARKERS)], markerfacecolor="white" if i % 2 else COLOURS[i % len(COLOURS)],
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label)
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside right upper")
        return _svg(figure)


def dots(rows: list[str], columns: dict[str, list[float | None]], marks: dict[str, float], x_label: str) -> str:
    """A row of dots for each name, one dot for each column; `marks` are vertical lines to compare with."""
    with _style():
        figure = Figure(figsize=(7.4, 1.2 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        place = range(len(rows) - 1, -1, -1)  # the first row on top
        for i, (name, values) in enumerate(columns.items()):
            face = COLOURS[i] if i % 2 == 0 else "white"
            axes.plot(_numbers(values), place, MARKERS[i], color=COLOURS[i], markerfacecolor=face, label=name, markersize=6)
        for i, (name, value) in enumerate(marks.items()):
            axes.axvline(value, color="#555555", linestyle=DASHES[1 + i % 3], linewidth=1, label=name)
        axes.set(xlabel=x_label, ylim=(-0.7, len(rows) - 0.3))
        axes.set_yticks(list(place), rows)
        figure.legend(loc="outside upper center", ncols=3)
        return _svg(figure)


def reliability(curves: dict[str, tuple[Sequence[float], Sequence[float]]]) -> str:
    """A small panel for each model: the observed rate over the predicted one, and the diagonal."""
    with _style():
        count = -(-len(curves) // PANELS_A_ROW)
        figure = Figure(figsize=(7.4, 0.4 + 1.75 * count), layout="constrained")
        panels = figure.subplots(count, PANELS_A_ROW, sharex=True, sharey=True, squeeze=False).flatten()
        for axes, (name, (predicted, observed)) in zip(panels, curves.items(), strict=False):
            axes.plot([0, 1], [0, 1], color="#888888", linestyle=DASHES[1], linewidth=0.8)
            axes.plot(predicted, observed, color=COLOURS[0], marker=MARKERS[0], markersize=2.5, linewidth=1)
            axes.set_title(name, fontsize=9)
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        figure.supxlabel("predicted", fontsize=9)
        figure.supylabel("observed", fontsize=9)
        return _svg(figure)


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context(STYLE)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _svg(figure: Figure) -> str:
    """The <svg> element alone: no prologue, no metadata, no ids but those it refers to itself, as wide as the page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    element = out.getvalue()[out.getvalue().index("<svg") :]
    element = re.sub(r"<g id=\"[^\"]*\"", "<g", element)
    return re.sub(r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width: 100%; max-width: \1pt"', element, count=1)
