"""make bench-gpu on a small scale, the CPU in the place of the GPU; no figure is asserted."""

import json
import subprocess
import sys
from dataclasses import replace

import onnxruntime
import pytest

from loadtest.served.bench_setup import Serving
from loadtest.served.bench_world import Sizes
from loadtest.speed import gpu_table, point
from loadtest.speed.gpu_table import bench_gpu, gpu_works, missing
from loadtest.speed.work import TABLE, Work
from service.device import CUDA
from tests.world import ROOT

NO_CUDA = CUDA not in onnxruntime.get_available_providers()
SIZES = Sizes(items=2_000, categories=40, life_categories=20)
PATIENT = {"CTR_TIMEOUT_MS": "10000", "CTR_STORE_TIMEOUT_MS": "5000", "CTR_SEARCH": "device", "CTR_PRECISION": "float16"}
LIVES = {200: 2}


def test_every_row_of_the_table_is_measured_on_the_gpu_and_every_scan_with_many_candidates():
    works = gpu_works()
    assert [(work.work, work.model, work.per_s) for work in works[: len(TABLE)]] == [
        (work.work, work.model, work.per_s) for work in TABLE
    ]
    scans = {work.model for work in TABLE if work.work == "scan"}
    for way in ("", ", float16", ", searched by the CPU"):
        rows = [work for work in works if work.work == f"scan of 1,000{way}"]
        assert {work.model for work in rows} == scans
        assert {(work.candidates, work.life, work.p99_ms) for work in rows} == {(1_000, 100_000, 30)}
    assert {work.serving.settings["CTR_PROVIDERS"] for work in works} == {"cuda"}


def test_a_name_of_a_serving_means_one_thing():
    servings = [work.serving for work in gpu_works()]
    assert all(first == second for first in servings for second in servings if first.name == second.name)


def test_two_models_are_measured_and_the_page_states_the_targets(tmp_path, monkeypatch):
    monkeypatch.setattr(point, "LOG", tmp_path / "scorer.log")
    serving = Serving("small", {"eta": {}, "sim_soft": {}}, PATIENT)
    row = Work("scan of 40", "eta", 200, 20, 30, life=200, categories=10, candidates=40, serving=serving)
    works = [row, replace(row, model="sim_soft")]
    page = bench_gpu(True, "", tmp_path / "results", tmp_path, SIZES, works, LIVES, "cpu")
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [(row["work"], row["model"], row["errors"]) for row in rows] == [
        ("scan of 40", "eta", 0), ("scan of 40", "sim_soft", 0)
    ]  # fmt: skip
    text = page.read_text()
    assert "p99 under 30 ms, 5 aimed at" in text
    assert "`make bench-gpu` measures again" in text


@pytest.mark.skipif(not NO_CUDA, reason="needs a machine without CUDA")
def test_without_cuda_it_says_what_is_missing_and_fails():
    process = subprocess.run([sys.executable, "-m", "loadtest", "bench-gpu"], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 1
    assert "needs a GPU: " in process.stderr
    assert "onnxruntime-gpu" in process.stderr


@pytest.mark.parametrize(("listed", "offered"), [([], [CUDA]), (["H"], ["CPUExecutionProvider"])])
def test_each_thing_that_is_missing_is_said(monkeypatch, listed, offered):
    monkeypatch.setattr(gpu_table, "gpus", lambda: listed)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    (said,) = missing()
    assert ("nvidia-smi" in said) == (not listed)
    assert (CUDA in said) == (offered != [CUDA])
