"""Locust's users and shape, run as locust runs them."""

import csv
import json
import subprocess
import sys

from tests.service.tiny import Tiny
from tests.world import ROOT, running_scorer


def test_steps_are_offered_and_reported(tmp_path, store_url, data_name):
    tiny = Tiny.at(tmp_path / "bundles", data_name)
    tiny.add("din")
    workload, figures, page = tmp_path / "workload.json", tmp_path / "figures.json", tmp_path / "locust.html"
    workload.write_text(json.dumps([{"user_id": "u1", "item_ids": ["i1", "i2"]}]))
    with running_scorer(tiny.bundles, store_url, model="din") as (_, port):
        command = [
            sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py,loadtest/locust_steps.py", "--headless", "--host",
            f"http://127.0.0.1:{port}", "--workload", workload, "--figures", figures, "--html", page, "--steps", "1,3",
            "--step-s", "3", "--csv", tmp_path / "run",
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    found = json.loads(figures.read_text())
    assert found["requests"] > 0
    assert found["errors"] == 0
    with (tmp_path / "run_stats_history.csv").open() as history:
        users = [int(point["User Count"]) for point in csv.DictReader(history)]
    assert users == sorted(users)
    assert {1, 3} <= set(users)
    assert "<html" in page.read_text()
