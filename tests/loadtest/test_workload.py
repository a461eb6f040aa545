"""Workloads and the small client."""

import json

import pytest

from loadtest.scorer_client import ScorerClient
from loadtest.workload import make_workload, write_workload
from store.load import Prepared
from tests.world import DATA, free_port


@pytest.fixture(scope="module")
def prepared(world):
    return Prepared.open(world.folder / "data" / DATA)


def test_a_workload_has_known_users_and_distinct_real_items(prepared, world):
    requests = make_workload(prepared, users=5, candidates=500)
    assert len({request["user_id"] for request in requests}) == 5
    for request in requests:
        assert request["user_id"] in world.dataset.user_ids
        assert len(set(request["item_ids"])) == 500
        assert set(request["item_ids"]) <= set(world.dataset.registry.ids)


def test_the_same_seed_makes_the_same_workload(prepared, tmp_path):
    first, again = (make_workload(prepared, users=3, seed=2) for _ in range(2))
    assert first == again != make_workload(prepared, users=3, seed=3)
    write_workload(first, tmp_path / "deep/workload.json")
    assert json.loads((tmp_path / "deep/workload.json").read_text()) == first


def test_a_scorer_that_is_not_there_is_not_ready():
    assert not ScorerClient(f"http://127.0.0.1:{free_port()}", timeout_s=1).ready()
