"""What is concluded from a load beyond the knee."""

import numpy as np
import pytest

from loadtest.proofs.overload import WHOLE_RUN, first_run_s, load_rows
from loadtest.proofs.paced import Paced

NAMES = ("offered", "p99 of those answered", "answered a second", "refusals", "neither", "again after", "cores")


def paced(answered_ms, refused_ms, others=(), errors=0, cpu_s=1.0):
    """Ten seconds: so many answers of each kind, by how long they took."""
    took = np.concatenate([answered_ms, refused_ms, np.ones(len(others))])
    status = np.array([200] * len(answered_ms) + [429] * len(refused_ms) + list(others))
    return Paced(took, status, status == 200, errors, cpu_s, "made up")


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


def test_a_late_recovery_is_missed():
    assert not_met(paced(**GOOD), recovery=1.5) == ["again after"]


def test_recovery_is_the_first_of_ten_good_answers_in_a_row():
    good = np.ones(100, bool)
    assert first_run_s(good, 50.0) == 0
    good[[3, 8, 15]] = False
    assert first_run_s(good, 50.0) == 16 / 50
    good[:] = np.arange(100) % WHOLE_RUN > 0  # nine of ten
    assert first_run_s(good, 50.0) == 100 / 50
