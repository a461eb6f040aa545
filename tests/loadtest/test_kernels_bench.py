"""The benchmark of the searches on a small scale: every row is measured and written; no figure is asserted."""

import json

from loadtest import kernels_bench


def test_every_search_is_measured_beside_its_library(tmp_path, monkeypatch):
    small = {"ITEMS": 300, "CANDIDATES": 5, "K": 7, "REPEATS": 2}
    for name, value in small.items():
        monkeypatch.setattr(kernels_bench, name, value)
    work = {name: (*parts[:3], 200) for name, parts in kernels_bench.WORK.items()}
    monkeypatch.setattr(kernels_bench, "WORK", work)
    page = kernels_bench.bench_kernels(tmp_path).read_text()
    content = json.loads((tmp_path / "kernels.json").read_text())
    assert [row["work"] for row in content["rows"]] == list(work)
    assert all(row["ours_ms"] > 0 for row in content["rows"])
    assert all(
        "onnxruntime" in row["library"] and row["times"] > 0 for row in content["rows"] if not row["work"].startswith("eta")
    )
    assert {"machine", "commit", "load_before", "candidates", "k"} <= set(content)
    assert all(f"| {name} |" in page for name in work)


def test_without_faiss_the_searches_are_measured_alone(monkeypatch):
    monkeypatch.setattr(kernels_bench.importlib.util, "find_spec", lambda name: None)
    assert kernels_bench._faiss(None, None, None) == {}
