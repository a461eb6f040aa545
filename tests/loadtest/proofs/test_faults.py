"""What is concluded from a fault."""

import numpy as np
import pytest

from loadtest.open_loop import Outcome
from loadtest.proofs.faults import PER_S, detected_s, fault_row, waits_ms

CALM_MS = 10.0


def outcome(status, degraded=False, ms=7.0, read_ms=0.1):
    status = np.array(status)
    ms = np.full(len(status), ms)
    return Outcome(ms, ms * 0, status, (status == 200) & degraded, [f"behaviours;dur={read_ms}, x;dur=9"] * len(status), 0.1)


def row_of(status, *, back_s=0.4, **how):
    return fault_row("reset", outcome(status, **how), 2.0, back_s, CALM_MS)


def test_degraded_answers_and_a_few_refusals_are_no_failures():
    row = row_of([200] * 95 + [429] * 4 + [504], degraded=True)
    assert row.met
    assert row.value == (
        "95.0% of 200, 95% degraded, 1.0% of 504, 0.0% of 503, 0 failed, p99 7 ms, no wait for the store after 0.0 s, "
        "whole again after 0.4 s"
    )


@pytest.mark.parametrize(
    "status",
    [[429] * 100, [200] * 94 + [429] * 6, [200] * 99 + [503], [200] * 98 + [504] * 2, [200] * 99 + [500], [200] * 99 + [0]],
)
def test_no_answers_of_200_an_other_5xx_and_no_answer_at_all_are(status):
    assert not row_of(status).met


def test_an_answer_may_wait_for_a_connection_and_a_reply_and_no_longer():
    assert waits_ms() == 28
    assert row_of([200] * 99, ms=CALM_MS + 27).met
    assert not row_of([200] * 99, ms=CALM_MS + 29).met


def test_a_late_recovery_is_missed():
    assert not row_of([200], back_s=2.1).met


def test_who_waits_for_the_store_for_ever_has_not_found_out():
    assert not row_of([200] * 60, degraded=True, read_ms=8.0).met
    assert row_of([200] * 60, degraded=False, read_ms=8.0).met


def test_the_breaker_is_open_from_the_first_of_three_that_do_not_wait():
    waits = ["behaviours;dur=8.1", "behaviours;dur=0.02", "behaviours;dur=0.02"]
    timing = waits * 4 + ["behaviours;dur=0.02"] * 9
    assert detected_s(np.ones(len(timing), bool), timing) == pytest.approx(10 / PER_S)
    assert detected_s(np.ones(12, bool), waits * 4) == np.inf
    assert detected_s(np.ones(12, bool), [""] * 12) == np.inf
