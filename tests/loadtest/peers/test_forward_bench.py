"""One user in process: every contender takes its turn, and a plain export with other scores is not timed."""

import numpy as np
import pytest

from loadtest.peers import forward_bench, forward_work
from loadtest.peers.environment import FOLDER
from loadtest.peers.forward_bench import measure_forwards
from loadtest.peers.forward_ours import kept, read_request
from loadtest.peers.forward_work import ForwardWork, ours_once, write_request
from loadtest.served.bench_setup import Serving, bundles_of
from service.loading import Loading
from service.search import search
from store.bundle import versions

SERVING = Serving("forward", {"sdim": {}, "sim_soft": {"k": 20}}, {})
WORKS = [ForwardWork("sdim", 300, 1, serving=SERVING), ForwardWork("sim_soft", 120, 1, tiled=True, serving=SERVING)]
PEERS = (FOLDER / "installed.txt").is_file()


@pytest.fixture(autouse=True)
def _log(folder, monkeypatch):
    monkeypatch.setattr(forward_bench, "LOG", folder / "log")
    monkeypatch.setattr(forward_bench, "THREADS", (2,))


def loaded(bench_world, folder, model):
    model_folder = bundles_of(bench_world, SERVING, folder) / model
    return Loading("cpu", 1).load(model_folder / versions(model_folder)[-1])


def without_fuxictr(*arguments):
    return {name: command for name, command in forward_work.commands(*arguments).items() if name != "FuxiCTR"}


def test_contenders_take_turns(bench_world, folder, monkeypatch):
    monkeypatch.setattr(forward_bench, "commands", without_fuxictr)
    rows = measure_forwards(bench_world, folder, folder, 10, WORKS)
    found = [(row["model"], row["threads"], row["contender"]) for row in rows]
    assert found == [
        *(("sdim", 2, name) for name in ("ours", "ours, nothing kept")),
        *(("sim_soft", 2, name) for name in ("ours", "onnxruntime")),
    ]
    for row in rows:
        assert row["ms"] > 0
        assert row["peak_mb"] >= row["loaded_mb"] > 20
        assert row["contender"] != "ours" or row["times_ours_ms"] == 1


@pytest.mark.skipif(not PEERS, reason="no .venv-peers: make bench PART=peers makes it")
def test_fuxictr_takes_its_turn(bench_world, folder):
    rows = measure_forwards(bench_world, FOLDER / "bin/python", folder, 10, [WORKS[1]])
    (theirs,) = [row for row in rows if row["contender"] == "FuxiCTR"]
    assert theirs["ms"] > 0


def test_a_plain_export_with_other_scores_is_not_timed(bench_world, folder, monkeypatch):
    def other(*arguments):
        inputs, scores = ours_once(*arguments)
        return inputs, scores + np.float32(2e-5)

    monkeypatch.setattr(forward_bench, "ours_once", other)
    with pytest.raises(ValueError, match=r"sim_soft: the plain export differs by 2e-05, 10 candidates by more than 1e-05; not"):
        measure_forwards(bench_world, folder, folder, 10, [WORKS[1]])


def test_a_kept_state_scores_as_the_whole_life_does(bench_world, folder, tmp_path):
    """And is read as a request reads it: the newest behaviours and a snapshot, 16 of them after it."""
    sdim = loaded(bench_world, folder, "sdim")
    call, life = write_request(bench_world, sdim.bundle, 300, 10, tmp_path)
    again, same, tail = read_request(tmp_path)
    assert (again.candidates.row == call.candidates.row).all()
    assert (same.row == life.row).all()
    fetched = kept(sdim, life, tail)
    assert (len(fetched.behaviours), fetched.snapshot.folded, tail) == (100, 284, 16)
    searched = search(call, fetched, sdim.bundle)
    assert searched.retrieved.mask.sum() == 16
    _, whole = ours_once(sdim, call, life)
    logit = sdim.graph.run(searched.inputs, searched.state).logit
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), whole, atol=1e-5)
