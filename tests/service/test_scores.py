import json

import numpy as np
import pytest

from service.attend import Attended
from service.behaviours import Fetched
from service.scores import ScoreResponse, respond
from service.search import Searched, search
from store.bundle import Bundle
from store.graph_inputs import scores_of
from store.types import Behaviours, Retrieved
from tests.service.tiny import sign_again


def answer(tiny, bundle, item_ids, weight, explain, retrieved=None, fetched=None):
    """The response to candidates whose attention weights are given, over the known history."""
    fetched = fetched or Fetched(tiny.history())
    call = tiny.call(bundle, item_ids, explain=explain)
    searched = search(call, fetched, bundle)
    if retrieved is not None:
        searched = Searched(fetched.behaviours, retrieved, searched.inputs)
    logit = np.zeros(len(item_ids), np.float32)
    return respond(call, fetched, searched, Attended(logit, None if weight is None else np.array(weight, np.float32)), bundle)


def explained(*args, **kwargs):
    return [[behaviour["item_id"] for behaviour in one] for one in answer(*args, **kwargs).explanations]


def test_a_logit_of_zero_is_one_half():
    assert scores_of(np.zeros(1, np.float32)).tolist() == [0.5]


def test_a_score_is_the_sigmoid_of_its_logit():
    scores = scores_of(np.array([1, 2, -3], np.float32))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-1.0, -2.0, 3.0])), rtol=1e-6)


def test_scores_are_float32():
    assert scores_of(np.zeros(1, np.float32)).dtype == np.float32


def test_the_largest_logits_give_scores_without_a_warning():
    scores = scores_of(np.array([-1000, 1000], np.float32))
    assert scores.tolist() == [0, 1]


def test_the_heaviest_behaviours_come_first(shared_tiny, din):
    assert explained(shared_tiny, din, ["i1", "i2"], [[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], 3) == [
        ["i2", "i5", "i3"],
        ["i5", "i2", "i3"],
    ]


def test_no_more_behaviours_are_given_than_asked_for(shared_tiny, din):
    assert explained(shared_tiny, din, ["i1"], [[0.2, 0.5, 0.3]], 2) == [["i2", "i5"]]


def test_no_more_behaviours_are_given_than_there_are(shared_tiny, din):
    assert len(answer(shared_tiny, din, ["i1"], [[0.2, 0.5, 0.3]], 20).explanations[0]) == 3


def test_an_explanation_says_what_when_and_how_much(shared_tiny, din):
    (first,) = answer(shared_tiny, din, ["i1"], [[0.25, 0.5, 0.25]], 1).explanations[0]
    assert first == {"item_id": "i2", "ts": 300, "category": "c1", "weight": 0.5}


def test_a_masked_entry_is_no_behaviour_whatever_its_weight(shared_tiny, din):
    retrieved = Retrieved(np.array([[0, 0, 3]], np.int32), np.array([[True, False, True]]), np.array([0], np.int32), 2)
    assert explained(shared_tiny, din, ["i1"], [[0.1, 0.8, 0.1]], 3, retrieved) == [["i1", "i5"]]


def test_a_user_without_behaviours_has_an_empty_list_per_candidate(shared_tiny, din):
    fetched = Fetched(Behaviours.empty(1))
    assert explained(shared_tiny, din, ["i1", "i2"], [[0.0], [0.0]], 3, fetched=fetched) == [[], []]


def test_explanations_follow_their_candidate_through_groups_and_padding(shared_tiny, sim_hard):
    """Groups of four of one category: [i2, i1, i1], [i3], [i5], padded."""
    call = shared_tiny.call(sim_hard, ["i3", "i2", "i5", "i1", "i1"])
    place = search(call, Fetched(shared_tiny.history()), sim_hard).retrieved.place
    weight = np.tile(np.array([[0.4, 0.6, 0.0]], np.float32), (len(place), 1))[:, :2]
    lists = explained(shared_tiny, sim_hard, ["i3", "i2", "i5", "i1", "i1"], weight, 2)
    assert lists == [["i3"], ["i2", "i1"], ["i5"], ["i2", "i1"], ["i2", "i1"]]


def test_duplicates_are_explained_alike(shared_tiny, din):
    weight = [[0.2, 0.5, 0.3]] * 2
    first, second = answer(shared_tiny, din, ["i1", "i1"], weight, 3).explanations
    assert first == second


def test_a_behaviour_newer_than_the_bundle_has_the_id_that_the_store_gave(shared_tiny, din):
    newer = Behaviours(np.array([99], np.int32), np.array([2], np.int32), np.array([500]), np.array([[1]], np.uint8))
    fetched = Fetched(newer, item_ids={99: "i99"})
    assert explained(shared_tiny, din, ["i1"], [[1.0]], 3, fetched=fetched) == [["i99"]]


def test_a_model_that_does_not_explain_has_null(shared_tiny, tiny):
    bundle = Bundle(tiny.add("din", explains=False))
    assert answer(shared_tiny, bundle, ["i1"], None, 3).explanations is None


def test_weights_that_the_manifest_does_not_vouch_for_explain_nothing(shared_tiny, tiny):
    folder = tiny.add("din")
    sign_again(folder, explains=False)
    assert answer(shared_tiny, Bundle(folder), ["i1"], [[0.2, 0.5, 0.3]], 3).explanations is None


def test_nothing_is_explained_unasked(shared_tiny, din):
    assert answer(shared_tiny, din, ["i1"], None, 0).explanations is None


def test_reasons_are_sorted(shared_tiny, din):
    fetched = Fetched(shared_tiny.history(), degraded=("store_error", "bad_record"))
    assert answer(shared_tiny, din, ["i1"], None, 0, fetched=fetched).degraded == ["bad_record", "store_error"]


def test_the_response_says_which_bundle_and_how_much_was_searched(shared_tiny, sim_hard):
    response = answer(shared_tiny, sim_hard, ["i1"], None, 0)
    assert (response.model, response.version, response.behaviours) == ("sim_hard", "20260131T120000Z", 2)


def body(explained, explanations=None):
    scores = np.array([0.1, 1 / 3], np.float32)
    return json.loads(ScoreResponse("din", "v", scores, ["store_down"], 1, 7, explanations).to_json("r1", explained))


def test_the_body_has_the_fields_of_the_contract():
    assert list(body(False)) == ["request_id", "model", "version", "scores", "degraded", "unknown_items", "behaviours"]


def test_the_scores_of_the_body_are_the_float32_ones():
    assert np.array(body(False)["scores"], np.float32).tolist() == np.array([0.1, 1 / 3], np.float32).tolist()


@pytest.mark.parametrize("explanations", [None, [[], []]])
def test_explanations_are_in_the_body_when_asked_for_even_if_null(explanations):
    assert body(True, explanations)["explanations"] == explanations
