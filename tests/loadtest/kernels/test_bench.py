"""The benchmark of the searches on a small scale: every row is measured and written; no figure is asserted."""

import json

from loadtest.kernels import bench

ATTENDED = {
    "lists": 20, "wanted_ms": 2.5, "ours_wall_ms": 1.3, "library": "onnxruntime 1", "library_ms": 9.9, "times": 7.6, "apart": 3e-7
}  # fmt: skip
SESSION = {"model": "mind", "session": "no arena", "cpu_ms": 1.5, "wall_ms": 1.4, "times_cpu": 1.03, "times_wall": 1.01}


def test_every_search_is_measured_beside_its_library(tmp_path, monkeypatch):
    small = {"CANDIDATES": 5, "K": 7, "REPEATS": 2}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    work = {name: (*parts[:-1], (600,)) for name, parts in bench.WORK.items()}
    monkeypatch.setattr(bench, "WORK", work)
    monkeypatch.setattr(bench, "attend_rows", lambda world, repeats: [ATTENDED | {"ours_ms": repeats}])
    monkeypatch.setattr(bench, "session_rows", lambda world, folder, rounds: [SESSION | {"wall_ms": rounds}])
    page = bench.bench_kernels(tmp_path, tmp_path).read_text()
    content = json.loads((tmp_path / "kernels.json").read_text())
    names = [f"{name}, 600" for name in work]
    assert [row["work"] for row in content["rows"]] == [name for name in names for _ in (0, 1)]
    assert all(
        repeated["items"] < 600 == other["items"]
        for repeated, other in zip(content["rows"][::2], content["rows"][1::2], strict=True)
    )
    assert all(row["ours_ms"] > 0 for row in content["rows"])
    assert all(
        "onnxruntime" in row["library"] and row["times"] > 0 for row in content["rows"] if not row["work"].startswith("eta")
    )
    assert "| 20 | 2 | 2.5 | 1.3 | onnxruntime 1 | 9.9 | 7.6 | 3e-07 |" in page
    assert "| mind | no arena | 1.5 | 2 | 1.03 | 1.01 |" in page
    assert content["attend"] == [ATTENDED | {"ours_ms": 2}]
    assert {"machine", "commit", "load_before", "candidates", "k"} <= set(content)
    assert all(page.count(f"| {name} |") == 2 for name in names)


def test_without_faiss_the_searches_are_measured_alone(monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert bench._faiss(None, None, None) == {}
