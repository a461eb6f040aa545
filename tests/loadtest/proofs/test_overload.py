"""What is concluded from a load beyond the knee."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from loadtest.open_loop import START_S, Outcome
from loadtest.proofs import overload
from loadtest.proofs.overload import ONE_CORE, SLO_MS, WHOLE_RUN, first_run_s, load_rows
from loadtest.proofs.paced import Paced
from service.settings import Settings

NAMES = ("offered", "p99 of those answered", "answered a second", "refusals", "neither", "again after", "cores")


def paced(answered_ms, refused_ms, others=(), errors=0, cpu_s=1.0):
    """Ten seconds: so many answers of each kind, by how long they took."""
    took = np.concatenate([answered_ms, refused_ms, np.ones(len(others))])
    status = np.array([200] * len(answered_ms) + [429] * len(refused_ms) + list(others))
    return Paced(took, status, status == 200, errors, cpu_s, 0.0, "made up")


def not_met(load, recovery=0.1):
    rows = load_rows(load, "2 x knee", 100.0, 2, 10.0, recovery)
    return [name for name, row in zip(NAMES, rows, strict=True) if not row.met]


GOOD = {"answered_ms": np.full(900, 20.0), "refused_ms": np.full(1100, 2.0)}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"answered_ms": np.full(900, 31.0)}, ["p99 of those answered"]),
        ({"answered_ms": np.r_[np.full(880, 1.0), np.full(20, 31.0)]}, ["p99 of those answered"]),
        ({"answered_ms": np.r_[np.full(895, 1.0), np.full(5, 31.0)]}, []),
        ({"refused_ms": np.full(1100, 6.0)}, ["refusals"]),
        ({"answered_ms": np.full(700, 20.0), "refused_ms": np.full(1300, 2.0)}, ["answered a second"]),
        ({"refused_ms": np.full(500, 2.0)}, ["offered"]),
        ({"others": [504]}, ["neither"]),
        ({"errors": 1}, ["neither"]),
        ({"cpu_s": 9.5}, ["cores"]),
    ],
)
def test_what_is_missed_is_said(changes, missed):
    assert not_met(paced(**GOOD | changes)) == missed


def test_a_degraded_answer_is_neither():
    load = paced(**GOOD)
    load.whole[0] = False
    assert not_met(load) == ["neither"]


def test_the_proof_has_the_default_queue_which_is_within_the_limit_of_answers():
    assert "CTR_QUEUE_MS" not in ONE_CORE
    assert Settings().queue_ms == 10 < SLO_MS


def test_what_is_nearly_reached_is_seen_in_the_figures():
    row = load_rows(paced(np.full(749, 20.0), np.full(1251, 2.0)), "2 x knee", 100.0, 2, 10.0, 0.1)[2]
    assert (row.value, row.wanted, row.met) == ("74.9", "at least 75.0, 0.75 of the knee", False)


def test_recovery_counts_from_the_end_of_the_burst(monkeypatch):
    good = Outcome(np.ones(150), np.zeros(150), np.full(150, 200), np.zeros(150, bool), [""] * 150, 0.1)
    monkeypatch.setattr(overload, "offer", lambda job: good)
    one = SimpleNamespace(port=0, requests=[b""])
    assert overload.recovery_s(one, 50.0, time.perf_counter() - 2) == pytest.approx(2 + START_S, abs=0.2)


def test_the_row_of_recovery_says_how_many_were_asked_for_how_long():
    row = load_rows(paced(**GOOD), "2 x knee", 100.0, 2, 10.0, 0.1)[5]
    assert (row.n, row.seconds) == (150, 3.0)


def test_a_late_recovery_is_missed():
    assert not_met(paced(**GOOD), recovery=1.5) == ["again after"]


def test_recovery_is_the_first_of_ten_good_answers_in_a_row():
    good = np.ones(100, bool)
    assert first_run_s(good, 50.0) == 0
    good[[3, 8, 15]] = False
    assert first_run_s(good, 50.0) == 16 / 50
    good[:] = np.arange(100) % WHOLE_RUN > 0  # nine of ten
    assert first_run_s(good, 50.0) == 100 / 50
