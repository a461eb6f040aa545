"""The speed table on a small scale: bundles by the export path, a real store, a real scorer; no figure is asserted."""

import json
import urllib.request
from dataclasses import replace

import pytest

from loadtest.served.bench_setup import Serving, bundles_of
from loadtest.served.bench_world import BenchWorld, Sizes
from loadtest.speed import curves, point
from loadtest.speed.curves import bench_curves, knee
from loadtest.speed.point import Length, check, running_scorer
from loadtest.speed.stage_check import in_blocks
from loadtest.speed.table import bench_store, bench_table
from loadtest.speed.work import Work, bodies
from service.metrics import STAGES

SIZES = Sizes(items=2_000, categories=40, life_categories=20)
PATIENT = {"CTR_TIMEOUT_MS": "10000", "CTR_STORE_TIMEOUT_MS": "5000"}  # other tests may run beside these
SERVING = Serving("two", {"mean_pool": {}, "sdim": {}}, PATIENT)
WORKS = [
    Work("short", "mean_pool", 50, 50, p99_ms=1000, cpu_ms=1000, life=200, categories=10, candidates=40, serving=SERVING),
    Work("state", "sdim", 200, 50, life=200, categories=10, candidates=40, serving=SERVING),
]
LIVES = {200: 3}


@pytest.fixture(autouse=True)
def _log(folder, monkeypatch):
    monkeypatch.setattr(point, "LOG", folder / "scorer.log")


def test_two_models_are_measured_and_written(folder):
    results = folder / "results"
    page = bench_table(True, "", results, folder, SIZES, WORKS, LIVES)
    assert page == folder / "table.md"  # a quick run never touches the results
    assert not results.exists()
    content = json.loads((folder / "table.json").read_text())
    assert [(row["work"], row["model"], row["behaviours"]) for row in content["rows"]] == [
        ("short", "mean_pool", 50), ("state", "sdim", 200)
    ]  # fmt: skip
    for row in content["rows"]:
        assert (row["n"], row["offered_per_s"]) == (100, 50)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["cpu_ms"] > 0
    text = page.read_text()
    assert "| state | sdim | 200 |" in text
    assert "uvloop" in text


def test_requests_of_a_state_model_read_a_snapshot_and_its_tail(folder):
    """What is there is used again, and the scorer's own counters say how users were read."""
    world = BenchWorld(SIZES)
    before = sorted((folder / "bundles/two").glob("*/*/manifest.json"))
    with bench_store(world, WORKS, LIVES, folder) as url:
        bundles = bundles_of(world, SERVING, folder)
        assert sorted(bundles.glob("*/*/manifest.json")) == before != []
        with running_scorer(SERVING, bundles, url) as scorer:
            requests = {work.model: bodies(world, work, 3, 4) for work in WORKS}
            assert check(scorer, requests["sdim"][0]) == 200
            figures = in_blocks([scorer, scorer], requests, blocks=2)
            metrics = _metrics(scorer.port)
    assert metrics['ctr_state_reads_total{how="tail"}'] == 25  # one to check, three blocks of four for each side
    assert metrics["ctr_tail_behaviours_sum"] == 25 * 16
    assert {name for name in figures if name.startswith("sdim")} == {f"sdim {what}" for what in (*STAGES, "total", "cpu")}
    assert all(times.shape == (2, 2) and (times >= 0).all() for times in figures.values())
    assert (figures["sdim total"] > 0).all()
    assert (figures["sdim cpu"] > 0).all()


def test_other_sizes_are_made_anew(folder):
    one = Serving("one", {"mean_pool": {}}, {})
    made = bundles_of(BenchWorld(SIZES), one, folder)
    assert len(list(made.glob("mean_pool/*/manifest.json"))) == 1
    other = bundles_of(BenchWorld(replace(SIZES, items=2_100)), one, folder)
    assert made == other
    (manifest,) = other.glob("mean_pool/*/manifest.json")
    assert json.loads(manifest.read_text())["item_rows"] == 2_102


def test_a_model_that_no_row_has_is_an_error(folder):
    with pytest.raises(ValueError, match="no row of nothing; models are mean_pool, sdim"):
        bench_table(True, "nothing", folder, folder, SIZES, WORKS, LIVES)


def test_curves_are_measured_and_drawn(folder, tmp_path, monkeypatch):
    small = {"DEFAULT": SERVING, "LIFE": 200, "NUMBERS": (10,), "SHARES": (0.1, 0.2), "SLOW_PER_S": 50}
    for name, value in small.items():
        monkeypatch.setattr(curves, name, value)
    path = bench_curves(tmp_path, folder, SIZES, ["sdim"], Length(0.4, 1_000, 0.1), LIVES)
    content = json.loads(path.read_text())
    assert [point["curve"] for point in content["points"]] == ["behaviours", "candidates", "candidates", "rate", "rate"]
    assert [point["candidates"] for point in content["points"]] == [500, 500, 10, 500, 500]
    for one in content["points"]:
        assert sum(one["stages"].values()) == pytest.approx(one["total_ms"], abs=0.01)
    assert set(content["knee_per_s"]) == {"sdim"}
    page = (tmp_path / "curves.md").read_text()
    for name in ("rate", "behaviours", "candidates", "stages"):
        assert f"curves_{name}.svg" in page
        assert "</svg>" in (tmp_path / f"curves_{name}.svg").read_text()


@pytest.mark.parametrize(
    ("p99", "at"), [([10, 12, 29, 31], 30), ([10, 40, 12, 12], 10), ([10, 11, 12, 13], 40), ([60_000, 60_000], None)]
)
def test_the_knee_is_where_the_tail_bends(p99, at):
    rows = [{"offered_per_s": 10 * (i + 1), "p99_ms": ms} for i, ms in enumerate(p99)]
    assert knee(rows[::-1]) == at


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
