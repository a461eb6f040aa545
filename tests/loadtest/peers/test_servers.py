"""Other servers over the same models: they answer as ours does, or are not measured. No figure is asserted.

FastAPI stands for all of them here, in our own environment; the others need .venv-peers.
"""

import json
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest

from loadtest.peers import bench, servers
from loadtest.peers.bench import bench_peers, page
from loadtest.peers.environment import FOLDER
from loadtest.peers.process import ask, peer_server
from loadtest.peers.requests import check_answer, prepare
from loadtest.peers.servers import SYSTEMS, Effort, measure_servers
from loadtest.served.bench_setup import Serving, bundles_of
from loadtest.served.bench_world import Sizes
from loadtest.speed import point
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics

EFFORT = Effort(
    rounds=2, per_s=50, seconds=0.4, warm_up_s=0.1, idle_s=0.1, saturating=20, users=2, candidates=12, bodies=4, checked=2
)
SERVING = replace(servers.SERVING, models={"mean_pool": {}})
PEERS = (FOLDER / "installed.txt").is_file()


@pytest.fixture(autouse=True)
def _small(folder, monkeypatch):
    monkeypatch.setattr(servers, "SERVING", SERVING)
    monkeypatch.setattr(servers, "SYSTEMS", {name: SYSTEMS[name] for name in ("longtrail", "FastAPI")})
    monkeypatch.setattr(servers, "LOG", folder / "peers.log")
    monkeypatch.setattr(point, "LOG", folder / "scorer.log")


def prepared(bench_world, folder, serving=SERVING):
    bundles = Bundles(bundles_of(bench_world, serving, folder), "", "", Loading("cpu", 1), Metrics()).all
    return prepare(bench_world, bundles, folder / "in_memory", 2, 12, 4, 2)


def test_systems_are_measured_in_turns(bench_world, folder):
    before = set(psutil.Process().children(recursive=True))
    rows = measure_servers(bench_world, sys.executable, folder, EFFORT)
    assert [(row["system"], row["model"], len(row["rounds"])) for row in rows] == [
        ("longtrail", "mean_pool", 2), ("FastAPI", "mean_pool", 2)
    ]  # fmt: skip
    for row in rows:
        assert row["errors"] == 0
        assert row["difference"] < 1e-6
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["cpu_ms"] > 0
        assert row["saturated_per_s"] > 1
    assert rows[0]["times_ours"] == {"p50_ms": 1, "p99_ms": 1, "cpu_ms": 1}
    assert [row["processes"] for row in rows] == [2, 1]  # ours counts its store
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_system_with_other_scores_is_not_measured(bench_world, folder, monkeypatch):
    def other(*arguments):
        (asked,) = prepare(*arguments)
        return [replace(asked, expected=[scores + np.float32(2e-5) for scores in asked.expected])]

    monkeypatch.setattr(servers, "prepare", other)
    with pytest.raises(ValueError, match=r"longtrail, mean_pool: scores differ by 2e-05, 1e-05 allowed; not measured"):
        measure_servers(bench_world, sys.executable, folder, EFFORT)


@pytest.mark.parametrize(("change", "refused"), [(5e-6, ""), (2e-5, "differ by 2e-05"), (np.nan, "differ by nan")])
def test_answers_are_compared_score_by_score(bench_world, folder, change, refused):
    (asked,) = prepared(bench_world, folder)
    scores = asked.expected[1].astype(float)
    scores[-1] += change
    answer = json.dumps({"scores": scores.tolist()}).encode()
    if not refused:
        assert check_answer("it", asked, 1, answer) == pytest.approx(change, rel=0.1)
        return
    with pytest.raises(ValueError, match=refused):
        check_answer("it", asked, 1, answer)


def test_an_answer_of_another_length_is_refused(bench_world, folder):
    (asked,) = prepared(bench_world, folder)
    with pytest.raises(ValueError, match=r"\(11,\) scores, \(12,\) expected"):
        check_answer("it", asked, 0, json.dumps({"scores": asked.expected[0][1:].tolist()}).encode())


def test_models_that_search_for_each_candidate_have_no_ready_inputs(bench_world, folder):
    with pytest.raises(ValueError, match=r"sim_hard: \['recent_cross', 'retrieved_gap'\] follow the clock"):
        prepared(bench_world, folder, Serving("searched", {"sim_hard": {}}, {}))


@pytest.mark.skipif(not PEERS, reason="no .venv-peers: make bench PART=peers makes it")
@pytest.mark.parametrize("system", ["BentoML", "LitServe", "Ray Serve"])
def test_other_systems_answer_as_ours_does(bench_world, folder, system):
    (asked,) = prepared(bench_world, folder)
    python, log = FOLDER / "bin/python", folder / "peers.log"
    with peer_server(python, SYSTEMS[system], folder / "in_memory", 2, asked.bodies[0], log) as server:
        for number in range(2):
            assert check_answer(system, asked, number, ask(server.port, asked.bodies[number])) < 1e-6
        assert len(server.processes) > 2
        started = server.processes
    assert not any(process.is_running() for process in started)


def test_the_page_has_every_row_and_a_quick_run_touches_no_results(tmp_path, monkeypatch):
    point = {
        "p50_ms": 4.0,
        "p99_ms": 9.0,
        "cpu_ms": 3.0,
        "errors": 0,
        "saturated_per_s": 321.4,
        "idle_cores": 0.01,
        "processes": 2,
    }
    times = {"p50_ms": 1.25, "p99_ms": 1.5, "cpu_ms": 2.75}
    server = {"system": "Ray Serve", "model": "din", **point, "processes": 2, "times_ours": times}
    forward = {
        "model": "eta", "behaviours": 10_000, "contender": "FuxiCTR", "ms": 4000.0, "cpu_ms": 7000.0, "times_ours_ms": 123.4,
        "times_ours_cpu_ms": 99.9, "peak_mb": 5432, "loaded_mb": 600,
    }  # fmt: skip
    monkeypatch.setattr(bench, "peer_python", lambda: FOLDER)
    monkeypatch.setattr(bench, "NEEDED_GB", 0)
    monkeypatch.setattr(bench, "measure_servers", lambda *_: [server])
    monkeypatch.setattr(bench, "measure_forwards", lambda *_: [forward | {"threads": threads} for threads in (1, 2)])
    small = Sizes(items=2_000, categories=40, life_categories=20)
    written = bench_peers(True, tmp_path / "results", tmp_path, small)
    assert written == tmp_path / "peers.md"
    assert not (tmp_path / "results").exists()
    text = written.read_text()
    assert "| din | Ray Serve | 4 | 9 | 3 | 1.25 | 1.50 | 2.75 | 321 | 0.010 | 2 | 0 |" in text
    assert "| eta | 10,000 | FuxiCTR |" + 2 * " 4000 | 7000 | 123.4 | 99.9 |" + " 5,432 | 600 |" in text
    assert "CANDIDATES" not in text
    content = json.loads((tmp_path / "peers.json").read_text())
    assert page(content) == text
    assert {"machine", "commit", "load_before", "load_after", "effort"} <= set(content)
    assert {"bentoml", "litserve", "ray[serve]", "fuxictr"} <= set(content["versions"])
    assert bench_peers(False, tmp_path / "results", tmp_path, small) == tmp_path / "results/peers.md"
    monkeypatch.setattr(bench, "NEEDED_GB", 10**6)
    with pytest.raises(ValueError, match="GB of memory are free, 1000000 are needed"):
        bench_peers(False, tmp_path / "results", tmp_path, small)
