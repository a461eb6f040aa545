"""Plots that read without colour and refer to nothing outside."""

import re

import matplotlib
import numpy as np

from export.report.plots import COLOURS, DASHES, MARKERS, STYLE, Series, dots, lines, reliability


def many(count):
    return [Series(f"model_{i}", range(4), list(np.linspace(0.5, 0.9, 4))) for i in range(count)]


def test_twelve_series_differ_without_their_colour():
    looks = {(MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)], i % 2) for i in range(12)}
    assert len(looks) == 12


def test_colours_are_dark_enough_for_a_grey_printer():
    for colour in COLOURS:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 * 255


def test_a_plot_is_one_svg_that_is_the_same_every_time():
    first, second = (lines(many(3), "x", "y", ticks=["50", "200", "1000", "all"]) for _ in range(2))
    assert first == second
    assert first.startswith("<svg")
    assert first.rstrip().endswith("</svg>")


def test_text_stays_text():
    plot = lines(many(2), "newest behaviours", "AUC", ticks=["50", "200", "1000", "all"])
    assert {"model_0", "model_1", "newest behaviours", "AUC", "1000"} <= set(re.findall(r">([^<]+)</text>", plot))


def test_ids_are_those_the_plot_refers_to():
    for plot in (
        lines(many(2), "x", "y"),
        dots(["a", "b"], {"all": [0.7, 0.8]}, {"base": 0.75}, "AUC"),
        reliability({"a": ([0.1], [0.2])}),
    ):
        ids = set(re.findall(r'id="([^"]+)"', plot))
        assert ids
        assert all(f"#{one}" in plot for one in ids)


def test_a_missing_figure_leaves_its_place_empty():
    whole = dots(["a", "b", "c"], {"all": [0.7, 0.8, 0.9]}, {}, "AUC")
    gap = dots(["a", "b", "c"], {"all": [0.7, None, 0.9]}, {}, "AUC")
    assert whole.count("<use") == gap.count("<use") + 1


def test_every_model_has_its_panel():
    plot = reliability({f"model_{i}": ([0.1, 0.5], [0.2, 0.6]) for i in range(14)})
    assert len(re.findall(r">model_\d+</text>", plot)) == 14


def test_the_style_stays_in_the_plot():
    lines(many(1), "x", "y")
    assert matplotlib.rcParams["svg.fonttype"] == matplotlib.rcParamsDefault["svg.fonttype"] != STYLE["svg.fonttype"]
