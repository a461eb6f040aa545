"""Functions that take turns, and their ratio."""

import threading
import time

from loadtest.kernels.turns import in_turns, timed


def busy(ms: float):
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass


def test_turns_alternate_and_the_first_is_not_counted():
    ran = []
    found = in_turns({"ours": lambda: (ran.append("a"), busy(2)), "library 1": lambda: (ran.append("b"), busy(6))}, 5)
    assert "".join(ran) == "ab" * 6
    assert found["library"] == "library 1"
    assert 2 <= found["ours_ms"] <= found["library_ms"]
    assert 1.5 < found["times"] < 6
    lasts = iter([60, 2])
    assert in_turns({"ours": lambda: busy(next(lasts))}, 1)["ours_ms"] < 20


def test_without_a_library_ours_is_measured_alone():
    assert set(in_turns({"ours": lambda: busy(1)}, 2)) == {"ours_ms", "ours_wall_ms"}


def test_what_threads_do_in_the_pause_counts():
    spinning = threading.Event()

    def spin():
        while not spinning.is_set():
            pass

    def run():
        threading.Thread(target=spin).start()
        threading.Timer(0.1, spinning.set).start()

    cpu_ms, wall_ms = timed(run, 0.2)
    assert wall_ms < cpu_ms
    assert cpu_ms > 20
