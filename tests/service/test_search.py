import numpy as np
import pytest

from service.behaviours import Fetched
from service.search import search
from store.graph_inputs import cross_with_gap
from store.types import UNKNOWN, Behaviours
from tests.service.tiny import K, retrieved_rows


@pytest.fixture(scope="session")
def bundles(din, sim_hard, eta):
    return {"din": din, "sim_hard": sim_hard, "eta": eta}


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_the_inputs_are_those_of_the_manifest(shared_tiny, bundles, model):
    bundle = bundles[model]
    inputs = search(shared_tiny.call(bundle, ["i1", "i5", "new"]), Fetched(shared_tiny.history()), bundle).inputs
    for spec in bundle.manifest.inputs:
        if spec.name != "item_vector":
            assert (str(inputs[spec.name].dtype), inputs[spec.name].ndim) == (spec.dtype, len(spec.axes)), spec.name


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_a_user_without_behaviours_retrieves_nothing(shared_tiny, bundles, model):
    bundle = bundles[model]
    searched = search(shared_tiny.call(bundle, ["i1", "i5"]), Fetched(Behaviours.empty(1)), bundle)
    assert not searched.inputs["retrieved_mask"].any()
    assert searched.retrieved.searched == 0


def test_the_newest_behaviours_are_what_din_attends_to(shared_tiny, din):
    retrieved = search(shared_tiny.call(din, ["i1"]), Fetched(shared_tiny.history()), din).retrieved
    assert retrieved.index.tolist() == [[1, 2, 3]]
    assert retrieved.searched == K


def test_behaviours_of_its_own_category_are_what_a_candidate_of_sim_hard_attends_to(shared_tiny, sim_hard):
    history = shared_tiny.history()
    searched = search(shared_tiny.call(sim_hard, ["i4", "i2", "i6"]), Fetched(history), sim_hard)
    assert [rows.tolist() for rows in retrieved_rows(searched.retrieved, history)] == [[4], [2, 3], [6]]
    assert searched.retrieved.searched == 4


def test_of_many_behaviours_in_a_category_the_newest_are_kept(shared_tiny, sim_hard):
    history = shared_tiny.history([("i1", ts, 1) for ts in (10, 20, 30, 40, 50)])
    retrieved = search(shared_tiny.call(sim_hard, ["i2"]), Fetched(history), sim_hard).retrieved
    assert retrieved.index.tolist() == [[2, 3, 4]]
    assert retrieved.searched == 5


def test_only_the_requests_categories_count_as_searched(shared_tiny, sim_hard):
    assert search(shared_tiny.call(sim_hard, ["i1"]), Fetched(shared_tiny.history()), sim_hard).retrieved.searched == 2


def test_what_the_read_left_out_of_the_categories_counts_as_searched(shared_tiny, sim_hard):
    fetched = Fetched(shared_tiny.history(), older=7)
    assert search(shared_tiny.call(sim_hard, ["i1"]), fetched, sim_hard).retrieved.searched == 2 + 7


def test_the_whole_life_counts_as_searched_by_eta(shared_tiny, eta):
    assert search(shared_tiny.call(eta, ["i1"]), Fetched(shared_tiny.history()), eta).retrieved.searched == 4


@pytest.mark.parametrize("model", ["din", "eta"])
def test_an_item_newer_than_the_bundle_is_searched_as_the_unknown_one(shared_tiny, bundles, model):
    bundle = bundles[model]
    newer = Behaviours(np.array([99], np.int32), np.array([2], np.int32), np.array([500]), np.array([[1]], np.uint8))
    searched = search(shared_tiny.call(bundle, ["i1"]), Fetched(newer), bundle)
    assert searched.inputs["retrieved_row"][searched.inputs["retrieved_mask"]].tolist() == [UNKNOWN]


def test_what_was_read_stays_for_the_explanations(shared_tiny, din):
    newer = Behaviours(np.array([99], np.int32), np.array([2], np.int32), np.array([500]), np.array([[1]], np.uint8))
    assert search(shared_tiny.call(din, ["i1"]), Fetched(newer), din).behaviours is newer


def test_gaps_are_measured_to_the_time_of_the_call(shared_tiny, din):
    history = shared_tiny.history()
    soon, late = (
        search(shared_tiny.call(din, ["i1"], at=at), Fetched(history), din).inputs["retrieved_cross"] for at in (401, 4_000_000)
    )
    assert (soon[..., 0] < late[..., 0]).all()
    assert (late == cross_with_gap(history, 4_000_000)[1:][None, None]).all()


def test_a_behaviour_after_the_call_has_no_negative_gap(shared_tiny, din):
    cross = search(shared_tiny.call(din, ["i1"], at=0), Fetched(shared_tiny.history()), din).inputs["retrieved_cross"]
    assert cross[..., 0].tolist() == [[[1, 1, 1]]]


def test_every_candidate_stands_at_one_place(shared_tiny, sim_hard):
    call = shared_tiny.call(sim_hard, ["i1", "i3", "new", "i2", "i1", "i1", "i1", "i5"])
    place = search(call, Fetched(shared_tiny.history()), sim_hard).retrieved.place
    assert sorted(place[place >= 0].tolist()) == list(range(8))
    assert len(place) > 8  # padding: groups of four
