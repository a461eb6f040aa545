"""Processes that take turns: what is said of a turn is so."""

import sys

import numpy as np
import pytest

from loadtest.peers.environment import ROOT
from loadtest.peers.turns import contender

SLEEPER = "import time; from loadtest.peers.turns import answer_turns; answer_turns(lambda: (print('noise'), time.sleep(0.05)))"
GREEDY = "from loadtest.peers.turns import answer_turns; answer_turns(lambda: len(bytearray(b'x') * 60_000_000))"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def test_time_is_the_turns_and_what_it_prints_is_no_answer(tmp_path):
    with contender("sleeper", [sys.executable, "-c", SLEEPER], ENVIRONMENT, tmp_path / "log") as child:
        for _ in range(3):
            turn = child.turn()
            assert 50 <= turn["ms"] < 500
            assert turn["cpu_ms"] < 25
    assert "noise" in (tmp_path / "log").read_text()


COLD = """
import time
from loadtest.peers.turns import answer_turns
cold = []
def work():
    time.sleep(0.01 if cold else 0.15)
    cold.append(1)
answer_turns(work)
"""
LONG = "import time; from loadtest.peers.turns import answer_turns; answer_turns(lambda: (print('call'), time.sleep(0.4)))"


def test_short_work_is_done_until_it_is_warm_and_long_work_once(tmp_path):
    with contender("cold", [sys.executable, "-c", COLD], ENVIRONMENT, tmp_path / "cold") as child:
        assert 10 <= child.turn()["ms"] < 150
    with contender("long", [sys.executable, "-c", LONG], ENVIRONMENT, tmp_path / "long") as child:
        assert child.turn()["ms"] >= 400
    assert (tmp_path / "long").read_text().count("call") == 1


def test_memory_is_the_childs_own_and_its_highest(tmp_path):
    mine = np.ones(40_000_000)  # 320 MB: a child must not inherit the mark of its parent
    with contender("greedy", [sys.executable, "-c", GREEDY], ENVIRONMENT, tmp_path / "log") as child:
        assert child.loaded_mb < 60
        assert child.turn()["peak_mb"] - child.loaded_mb == pytest.approx(60, abs=5)
    assert mine[0] == 1


def test_a_child_that_ends_names_its_log(tmp_path):
    with (
        pytest.raises(ValueError, match=r"broken ended with status 3, see .*log"),
        contender("broken", [sys.executable, "-c", "raise SystemExit(3)"], ENVIRONMENT, tmp_path / "log"),
    ):
        pass
