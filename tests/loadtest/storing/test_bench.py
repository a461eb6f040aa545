"""The benchmark of the store on a small scale: every table is measured and written; no figure is asserted."""

import json

import numpy as np
import pytest

from loadtest.storing import bench
from loadtest.storing import made_up as made_up_users
from loadtest.storing.bench import bench_store, server_name
from loadtest.storing.made_up import USERS, made_up


def test_a_made_up_user_has_the_stated_size_and_every_category():
    life = made_up(400, 90)
    assert len(life) == 400
    assert len(np.unique(life.category)) == 90
    assert 0 < int(life.ts.min()) <= int(life.ts.max()) < 2**32
    assert (np.diff(life.ts) >= 0).all()


@pytest.mark.parametrize(
    ("info", "named"),
    [
        ({"server_name": "valkey", "redis_version": "7.2.4", "valkey_version": "9.1.2"}, "valkey 9.1.2"),
        ({"redis_version": "7.0.15"}, "redis 7.0.15"),
    ],
)
def test_a_server_is_named_by_its_own_version(info, named):
    assert server_name(info) == named


def test_all_tables_are_written(tmp_path, monkeypatch):
    for where, name, small in ((bench, "APPENDED", 40), (bench, "LOADED", 5_000), (made_up_users, "REPEATS", 1)):
        monkeypatch.setattr(where, name, small)
    fresh = {"stream": {"p50_ms": 3.5, "n": 7}}  # measured in test_freshness.py
    monkeypatch.setattr(bench, "measure", lambda rate, seconds, bundle: fresh)
    page = bench_store(tmp_path).read_text()
    content = json.loads((tmp_path / "store.json").read_text())
    assert [row["user"] for row in content["bytes"]] == list(USERS)
    assert [row["behaviours"] for row in content["bytes"]] == [size for size, _ in USERS.values()]
    assert all(row["ours_tree_bytes"] >= 12 * row["behaviours"] for row in content["bytes"])
    assert all(row["new"] == 40 for row in content["appends"])
    assert [row["model"] for row in content["states"]] == ["mimn", "sdim", "twin_v2"] * len(USERS)
    assert [row["behaviours"] for row in content["loads"]] == [4_800, 4_800, 5_000, 5_000]
    assert {"machine", "commit", "server", "load_before"} <= set(content)
    assert content["server"].startswith("valkey ")
    assert all(f"## {title}" in page for title in ("Bytes a behaviour", "Reads", "Appends", "Load", "States", "Freshness"))
    assert "| stream | 3.5 | 7 |" in page
    assert "| median | 400 | 90 |" in page
