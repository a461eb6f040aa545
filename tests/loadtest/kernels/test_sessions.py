"""Options of sessions: each beside what is served, in processes whose threads do not meet; no figure is asserted."""

import onnxruntime as ort
import pytest

from loadtest.kernels import sessions
from loadtest.served.bench_setup import Serving

MIND = Serving("graphs", {"mind": {}}, {})


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small = {"SERVING": MIND, "BEHAVIOURS": 100, "CANDIDATES": 9, "PAUSE_S": 0.001, "RUNS": 2}
    for name, value in small.items():
        monkeypatch.setattr(sessions, name, value)


def test_every_option_is_measured_beside_what_is_served(bench_world, tmp_path, monkeypatch):
    seen: list[tuple[int, str, bool, bool]] = []

    def session(path, options, providers):
        spins = options.get_session_config_entry("session.intra_op.allow_spinning")
        seen.append((options.intra_op_num_threads, spins, options.enable_cpu_mem_arena, options.enable_mem_pattern))
        return made(path, options, providers=providers)

    made = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", session)
    rows = sessions.session_rows(bench_world, tmp_path, 2)
    assert seen == 2 * [
        (1, "0", True, False), (1, "0", False, False), (1, "0", True, True), (2, "0", True, False), (2, "1", True, False)
    ]  # fmt: skip
    assert [row["session"] for row in rows] == list(sessions.CHANGES)
    assert all(row["model"] == "mind" and row["wall_ms"] > 0 and row["times_cpu"] > 0 for row in rows)
    assert (rows[0]["times_cpu"], rows[0]["times_wall"]) == (1, 1)


def test_ratios_are_those_of_one_round():
    """A machine that is half as fast in one of them changes no ratio."""
    served, found = [(1.0, 1.0), (2.0, 2.0), (4.0, 8.0)], [(3.0, 1.5), (6.0, 3.0), (12.0, 4.0)]
    assert sessions._beside(served, found) == {"cpu_ms": 6.0, "wall_ms": 3.0, "times_cpu": 3.0, "times_wall": 1.5}
