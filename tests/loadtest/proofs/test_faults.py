"""What is concluded from a fault."""

import numpy as np

from loadtest.open_loop import Outcome
from loadtest.proofs.faults import fault_row


def outcome(status, degraded=False):
    status = np.array(status)
    ms = np.full(len(status), 7.0)
    return Outcome(ms, ms * 0, status, (status == 200) & degraded, [""] * len(status), 0.1)


def test_degraded_answers_and_those_that_the_contract_names_are_no_failures():
    row = fault_row("reset", outcome([200] * 90 + [429] * 5 + [503, 504, 504, 429, 429], True), 2.0, 0.4)
    assert row.met
    assert row.value == "0 failed, 10 refused or late, 90% degraded, p99 7 ms, whole again after 0.4 s"


def test_a_500_and_no_answer_at_all_are():
    row = fault_row("reset", outcome([200] * 98 + [500, 0]), 2.0, 0.4)
    assert not row.met
    assert row.value.startswith("2 failed")


def test_a_late_recovery_is_missed():
    assert not fault_row("reset", outcome([200]), 2.0, 2.1).met
