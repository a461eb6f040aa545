"""bench-check: what counts as slower. The measuring itself runs in test_table.py's world."""

import io
import json
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import pytest

from loadtest.speed import stage_check
from loadtest.speed.point import RunningScorer
from loadtest.speed.stage_check import Compared, check_stages, compare, serve_stages

EARLIER = [8.0, 8.2, 7.9, 8.1, 12.0, 8.0, 7.8, 8.3, 8.0]  # one block in which something else ran


def of(now, earlier=EARLIER):
    return compare(np.array([earlier, now]))


def times(factor: float, less: float = 0):
    return [ms * factor - less for ms in EARLIER]


def test_a_stage_that_takes_a_fifth_longer_is_slower():
    one = of(times(1.2))
    assert one.slower == "SLOWER"
    assert (one.earlier_ms, one.now_ms, one.ratio) == pytest.approx((8.0, 9.6, 1.2))


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.09])
def test_less_than_a_tenth_is_not(factor):
    assert of(times(factor)).slower == ""


def test_twice_next_to_nothing_is_not():
    assert of([0.04] * 9, [0.02] * 9).slower == ""
    assert of([0.0] * 9, [0.0] * 9).ratio == 1


def test_an_hour_that_is_slower_for_both_cancels():
    wave = np.linspace(1, 3, 9)
    assert of(np.array(times(1.02)) * wave, np.array(EARLIER) * wave).slower == ""
    assert of(np.array(times(1.2)) * wave, np.array(EARLIER) * wave).slower == "SLOWER"


def test_blocks_that_do_not_agree_are_said_and_not_failed():
    assert of([10.0, 7.0, 9.9, 6.9, 11.0, 9.9, 6.8, 6.9, 9.9], [8.0] * 9).slower == "noisy"


def test_at_least_is_exceeded_by_the_median_nineteen_times_of_twenty():
    drawn = np.random.default_rng(3).normal(1.2, 0.1, (2_000, 24))
    held = [compare(np.array([np.ones(24), one])).at_least <= 1.2 for one in drawn]
    assert 0.96 < np.mean(held) < 0.995  # one of its two ends
    assert compare(np.array([[1.0, 1.0], [1.3, 1.1]])).at_least == 1.1


@pytest.mark.parametrize(("slower", "passes"), [("", True), ("noisy", True), ("SLOWER", False)])
def test_what_is_slower_fails_and_is_shown(monkeypatch, tmp_path, capsys, slower, passes):
    shown = {"SLOWER": Compared(8, 9.6, 1.2, 1.15), "noisy": Compared(8, 9.6, 1.2, 0.9), "": Compared(8, 8, 1, 0.9)}
    asked = []
    monkeypatch.setattr(stage_check, "tree_of", lambda commit, folder: asked.append(commit) or tmp_path)
    monkeypatch.setattr(stage_check, "scorer_of", lambda tree: nullcontext())
    monkeypatch.setattr(stage_check, "in_blocks", lambda sides, requests: {"scan eta 10000 search": slower})
    monkeypatch.setattr(stage_check, "compare", shown.__getitem__)
    (tmp_path / "table.json").write_text(json.dumps({"commit": "abc1234-dirty"}))
    assert check_stages(table=tmp_path / "table.json") is passes
    assert asked == ["abc1234"]
    assert "scan eta 10000" in (said := capsys.readouterr().out)
    assert slower in said
    check_stages("v1.0", table=tmp_path / "none.json")
    assert asked[1:] == ["v1.0"]


def test_the_scorer_says_where_it_is_and_ends_with_its_input(monkeypatch, capsys, tmp_path):
    """Store, bundles and scorer of a benchmark are real in test_table.py."""
    scorer = RunningScorer(7, 8)
    monkeypatch.setattr(stage_check, "bench_store", lambda *_: nullcontext("redis://"))
    monkeypatch.setattr(stage_check, "bundles_of", lambda *_: tmp_path)
    monkeypatch.setattr(stage_check, "running_scorer", lambda *_: nullcontext(scorer))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    serve_stages(folder=tmp_path)
    assert json.loads(capsys.readouterr().out) == asdict(scorer)
