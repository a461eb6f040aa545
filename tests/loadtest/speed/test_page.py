"""The table's files: the contract's keys, medians of the repeats, targets."""

import json
from dataclasses import replace

import numpy as np
import pytest

from loadtest.open_loop import SLOWER_THAN_ANY_LIMIT_MS
from loadtest.speed.page import Measured, write
from loadtest.speed.point import NO_GLUE, Length, Point, median_beyond, stage_times
from loadtest.speed.work import TABLE, USERS, Work
from service.metrics import STAGES, StageTimer

HEAD = {"made": "now", "machine": "m, 2 cores", "commit": "abc", "load_before": 0.1, "versions": {"numpy": "2"}}
STAGE = dict.fromkeys(STAGES, 1.0)
POINT = Point(100, 0, {}, 5.0, 10.0, 3.0, STAGE, STAGE, 6.0, 0.4, 1.3, 0.001, 0.05, 0.2, 9.0)


def measured(model: str = "twin", life: int = 10_000, p99=(10.0, 30.0, 11.0), cpu=(3.0, 3.2, 9.0), errors=(0, 2, 1)) -> Measured:
    points = [
        replace(POINT, p99_ms=slow, cpu_ms=used, errors=wrong, kinds={"504": wrong} if wrong else {}, reference_ms=reference)
        for slow, used, wrong, reference in zip(p99, cpu, errors, (9.0, 9.5, 14.0), strict=True)
    ]
    return Measured(Work("scan", model, life, 30, p99_ms=12, cpu_ms=4, life=life), life, points)


def test_a_row_has_the_contracts_keys_and_medians_of_the_repeats(tmp_path):
    write([measured()], HEAD, tmp_path, Length())
    content = json.loads((tmp_path / "table.json").read_text())
    assert content == {
        "schema": 1, "machine": "m, 2 cores", "commit": "abc",
        "rows": [{"work": "scan", "model": "twin", "behaviours": 10_000, "offered_per_s": 30, "n": 300, "p50_ms": 5.0,
                  "p99_ms": 11.0, "cpu_ms": 3.2, "errors": 3}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "met"),
    [({}, "yes"), ({"p99": (13.0, 30.0, 11.0)}, "no"), ({"cpu": (5.0, 5.0, 1.0)}, "no")],
    ids=["met", "p99", "CPU"],
)
def test_a_row_is_met_if_both_targets_are(tmp_path, change, met):
    page = write([measured(**change)], HEAD, tmp_path, Length()).read_text()
    line = next(line for line in page.splitlines() if line.startswith("| scan | twin | 10,000 | 30 |"))
    assert line.split(" | ")[-1] == f"{met} |"
    assert f"{min(change.get('p99', (10.0,))):g}-30" in line  # the spread
    assert line.split(" | ")[-2] == "9.5 (9-14)"  # of the machine's own speed
    assert page.splitlines().count("| scan | twin | 10,000 | 1 | 1 | 1 | 1 | 1 | 1 | 6 | 0.001 | 0.40 | 1.3 | 10,000 |") == 1


def test_a_row_without_targets_is_neither_met_nor_missed(tmp_path):
    one = measured()
    page = write([replace(one, work=replace(one.work, p99_ms=None, cpu_ms=None))], HEAD, tmp_path, Length()).read_text()
    assert next(line for line in page.splitlines() if line.startswith("| scan")).endswith("| 3 (504: 3) | 9.5 (9-14) |  |")


def test_long_lives_are_compared_with_shorter_ones(tmp_path):
    long = measured(life=100_000)
    long = replace(long, points=[replace(point, p50_ms=7.5) for point in long.points])
    assert (
        "p50 at 100,000 behaviours is 1.50 times that at 10,000"
        in write([measured(), long], HEAD, tmp_path, Length()).read_text()
    )


def test_stage_times_are_read_from_the_scorers_own_header():
    timer = StageTimer()
    timer.enter("request")
    timer.enter("attend")
    timer.finish()
    times = stage_times([timer.header(), "", timer.header()])
    assert times.shape == (3, len(STAGES) + 1)
    assert np.abs(times[::2, :-1].sum(axis=1) - times[::2, -1]).max() < 0.004  # rounded each
    assert np.isnan(times[1]).all()


def test_glue_is_what_reading_searching_and_attending_leave():
    parts = [0.2, 0.5, 0.7, 0.1, 3.0, 0.1, 4.6]  # queue .. scores, total
    times = np.array([parts, parts, [np.nan] * 7, parts])
    answer_ms = np.array([5.0, 5.6, 1.0, 5.3])
    assert median_beyond(answer_ms, times, ["total"]) == 0.7
    assert median_beyond(answer_ms, times, NO_GLUE) == 1.5
    assert np.isnan(median_beyond(answer_ms[2:3], times[2:3], NO_GLUE))


def test_every_row_has_users_and_its_own_name():
    assert len({(work.work, work.model, work.behaviours) for work in TABLE}) == len(TABLE)
    assert all(work.life in USERS and work.model in work.serving.models for work in TABLE)
    assert {work.model for work in TABLE} == set(TABLE[0].serving.models)  # all models


def test_the_table_takes_less_than_an_hour():
    """Three rounds with warm-up, and what a point and the starts of scorers cost beside it."""
    seconds = sum(3 * (min(60, 2_000 / work.per_s) + 3 + 1) for work in TABLE)
    assert 35 * 60 < seconds < 55 * 60
    assert SLOWER_THAN_ANY_LIMIT_MS > 1000 * 60 - 1
