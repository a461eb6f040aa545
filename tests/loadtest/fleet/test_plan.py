"""The plan's arithmetic against a case computed by hand, and the simulation of the tail against known queues."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from loadtest.fleet.plan import Demand, Fleet, Machine, Measured, measured, plan, sensitivity
from loadtest.fleet.report import report
from loadtest.fleet.tail import REPLY_SIGMA, REQUESTS, STORE_TIMEOUT_MS, core_waits, queue, read, simulate

DEMAND = Demand(users=1e6, behaviours=1_000, requests_per_s=10_000, model="sim_hard", candidates=500, items=1e6)
MACHINE = Machine(cores=10, memory_gb=20, network_gbit=10, busy=0.5, filled=0.5, copies=2)
STORE = {
    "bytes": [
        {"user": "light", "behaviours": 500, "ours_tree_bytes": 500 * 16, "ours_newest_bytes": 1_000},
        {"user": "heavy", "behaviours": 1_500, "ours_tree_bytes": 1_500 * 12, "ours_newest_bytes": 1_200},
    ],
    "reads": [{"user": "light", "life_reply_ms": 0.1}, {"user": "heavy", "life_reply_ms": 0.3}],
    "states": [{"model": "sdim", "behaviours": 500, "bytes": 30_000}, {"model": "sdim", "behaviours": 1_500, "bytes": 34_000}],
}


def row(model: str, work: str, behaviours: int, cpu_ms: float) -> dict[str, object]:
    return {"work": work, "model": model, "behaviours": behaviours, "cpu_ms": cpu_ms, "p50_ms": cpu_ms + 1, "p99_ms": 3 * cpu_ms}


ROWS = [
    row("sim_hard", "tree", 500, 2.0), row("sim_hard", "tree", 1_500, 4.0), row("sim_hard", "tree, 20 categories", 500, 99.0),
    row("sdim", "state", 1_000, 3.0), row("din", "short", 50, 5.0),
]  # fmt: skip


@pytest.fixture
def results(tmp_path):
    (tmp_path / "store.json").write_text(json.dumps(STORE))
    (tmp_path / "table.json").write_text(json.dumps({"schema": 1, "rows": ROWS}))
    return tmp_path


def test_what_was_measured_is_interpolated(results):
    of = measured(DEMAND, results)  # half way between the two users: 14 bytes a behaviour
    assert (of.user_bytes, of.read_bytes) == (14_000 + 1_100, 14_000 + 1_100)
    assert of.reply_ms == pytest.approx(0.2)
    assert (of.cpu_ms, of.p50_ms, of.p99_ms) == (3.0, 4.0, 9.0)
    assert of.row_bytes == 64 * 4  # item_vector alone
    assert of.blocks == 500 + 1_000
    assert of.notes == ()


def test_the_plan_is_that_computed_by_hand(results):
    store, scorers = plan(DEMAND, MACHINE, measured(DEMAND, results))
    # memory: 1e6 users x 15,100 bytes x 2 copies / 0.5 = 60.4 GB, 3.02 machines of 20 GB
    # cores: 10,000/s x 0.2 ms = 2 busy, 4 at 0.5; network: 10,000 x 15,100 x 8 = 1.208 Gbit/s of the 5 a machine may use
    assert store == Fleet(4, pytest.approx(4.0), pytest.approx(60.4), pytest.approx(1.208), "memory")
    # cores: 10,000/s x 3 ms = 30 busy, 60 at 0.5, 6 machines; tables: 1e6 x 256 / 0.5 = 0.512 GB on each
    # network: 10,000 x (15,100 + 700 + 500 x 23) x 8 = 2.184 Gbit/s
    assert scorers == Fleet(6, pytest.approx(60.0), pytest.approx(6 * 0.512), pytest.approx(2.184), "cores")


def test_blocks_that_miss_cost_time_and_network(results):
    of, missing = measured(DEMAND, results), replace(DEMAND, hit_rate=0.99)
    store, scorers = plan(missing, MACHINE, of)  # 15 of 1,500 blocks: 1.5 ms, 15 x 16 KiB
    assert scorers.cores == pytest.approx(10_000 * 4.5 / 1000 / 0.5)
    assert store.network_gbit == pytest.approx(1.208 + 10_000 * 15 * 16_384 * 8 / 1e9)


def test_a_model_with_a_state_reads_it_and_not_the_life(results):
    of = measured(replace(DEMAND, model="sdim"), results)
    assert of.user_bytes == 14_000 + 1_100 + 32_000
    assert of.read_bytes == 1_100 + 32_000
    assert of.reply_ms == pytest.approx(0.1)


def test_a_model_of_the_newest_reads_the_newest_list(results):
    of = measured(replace(DEMAND, model="din"), results)
    assert of.read_bytes == 1_100
    assert of.cpu_ms == 5.0
    assert "measured with 50 to 50 behaviours" in of.notes[0]


def test_a_search_by_category_reads_the_newest_of_each(results):
    of = measured(replace(DEMAND, behaviours=100_000), results)  # 150 categories x 192 behaviours of 12 bytes
    assert of.read_bytes == 28_800 * 12 + 1_200
    assert of.user_bytes == 100_000 * 12 + 1_200
    assert of.blocks == 500 + 28_800
    assert measured(replace(DEMAND, behaviours=28_800), results).read_bytes == of.read_bytes


def test_rows_of_other_models_than_the_defaults_do_not_stand_for_them(results):
    rows = [row("twin", "scan", 10_000, 17.0), row("twin", "scan", 100_000, 33.0), row("din", "short", 100, 15.0), *ROWS]
    (results / "table.json").write_text(json.dumps({"schema": 1, "rows": rows}))
    lifelong = measured(replace(DEMAND, model="twin", behaviours=100_000), results)
    assert lifelong.cpu_ms == 17.0  # not that of the merged search
    assert "measured with 10,000 to 10,000" in lifelong.notes[0]
    assert measured(replace(DEMAND, model="din"), results).cpu_ms == 5.0


def test_candidates_are_proportional_until_they_are_measured(results):
    twice = replace(DEMAND, candidates=1_000)
    of = measured(twice, results)
    assert of.cpu_ms == 6.0
    assert "proportional" in of.notes[0]
    points = [{"curve": "candidates", "model": "sim_hard", "candidates": c, "cpu_ms": 1 + c / 500} for c in (100, 500, 1_000)]
    (results / "curves.json").write_text(json.dumps({"points": points}))
    of = measured(twice, results)  # 3 / 2 of what 500 cost
    assert of.cpu_ms == pytest.approx(4.5)
    assert of.notes == ()


def test_sensitivity_moves_what_it_should(results):
    base_store, base_scorers = plan(DEMAND, MACHINE, measured(DEMAND, results))
    found = {name: (store, scorers) for name, store, scorers, _ in sensitivity(DEMAND, MACHINE, results)}
    assert found["2 x candidates"][0] == base_store
    assert found["2 x candidates"][1].cores == 2 * base_scorers.cores
    assert found["10 x behaviours"][0].memory_gb > 8 * base_store.memory_gb
    assert found["hit rate 0.99"][1].network_gbit > base_scorers.network_gbit


@pytest.mark.parametrize(("file", "command"), [("store.json", "make bench PART=store"), ("table.json", "make bench")])
def test_a_missing_result_file_names_the_command_that_makes_it(results, file, command):
    (results / file).unlink()
    with pytest.raises(ValueError, match=f"{file}: missing; `{command}`"):
        measured(DEMAND, results)


def test_a_model_that_was_not_measured_and_tables_too_large_are_errors(results):
    with pytest.raises(ValueError, match="no row of twin; it has din, sdim, sim_hard"):
        measured(replace(DEMAND, model="twin"), results)
    with pytest.raises(ValueError, match="item tables take 51 GB on each scorer, it has 20"):
        plan(replace(DEMAND, items=1e8), MACHINE, measured(DEMAND, results))


def test_waits_of_a_shard_are_those_of_the_formula():
    """Pollaczek-Khinchine: rho / (1 - rho) x mean service x (1 + variance / mean^2) / 2."""
    between, reply = 1.0, 0.5
    waited = queue(np.random.default_rng(0), between, reply, 2_000_000) - reply
    spread = np.exp(REPLY_SIGMA**2) - 1
    assert waited.mean() == pytest.approx(0.5 / 0.5 * reply * (1 + spread) / 2, rel=0.03)


def test_a_shard_that_cannot_keep_up_stops_at_the_limit():
    assert np.median(queue(np.random.default_rng(0), 1.0, 2.0)) == 10 * STORE_TIMEOUT_MS


def test_waits_for_cores_by_hand():
    waits = core_waits(np.array([0.0, 1.0, 2.0, 3.0]), np.array([5.0, 5.0, 1.0, 1.0]), cores=2)
    assert waits.tolist() == [0, 0, 3, 3]  # free at 5 and 6: the third begins at 5, the fourth at 6


def test_a_request_waits_for_the_slowest_of_its_shards():
    random, well, slow = np.random.default_rng(0), np.ones(10), np.full(10, 50.0)
    for fan_out in (1, 10):
        waited = read(random, well, slow, fan_out, 0.01)
        assert (waited == 50).mean() == pytest.approx(1 - 0.99**fan_out, rel=0.1)
        assert len(waited) == REQUESTS


def test_one_slow_shard_in_a_hundred_shows_with_the_fan_out_and_not_without():
    of = Measured(0, 0, 1.2, 3.0, 4.0, 9.0, 0, 0, ())
    store, scorers = Fleet(20, 0, 0, 0, "memory"), Fleet(6, 0, 0, 0, "cores")
    well, one, ten, fifty, copies = simulate(DEMAND, MACHINE, of, store, scorers)
    assert well.p99_ms < 12
    assert one.degraded < 0.02 < ten.degraded < fifty.degraded
    assert well.p99_ms <= one.p99_ms < ten.p99_ms
    assert copies.degraded < one.degraded


def test_the_report_has_formula_figures_and_tail(results):
    console = Console(record=True, width=160)
    report(DEMAND, MACHINE, console, results)
    text = console.export_text()
    assert "users x (behaviours x bytes a behaviour + newest list + state) x copies / filled" in text
    assert "60" in text
    for what in ("as asked", "2 x candidates", "hit rate 0.99", "all well", "fan-out 10", "note: CPU is taken as proportional"):
        assert what in text
