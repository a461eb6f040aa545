"""Requests cut into candidates that are attended to together: nothing is lost, and scores are those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import parts as module
from service.attend import Graph
from service.parts import parts
from service.search import search
from store.bundle import Bundle, versions
from tests.service.made_up_requests import made_up


def inputs_of(groups, places, k):
    return {
        "candidate_row": np.arange(groups * places, dtype=np.int32).reshape(1, groups, places),
        "retrieved_row": np.arange(groups * k, dtype=np.int32).reshape(1, groups, k),
        "retrieved_mask": np.ones((1, groups, k), np.bool_),
        "retrieved_cross": np.zeros((1, groups, k, 4), np.int32),
        "recent_row": np.zeros((1, 50), np.int32),
        "context": np.zeros((1, 2), np.int32),
    }


@given(st.integers(1, 700), st.integers(1, 120), st.sampled_from([8, 64, 512]))
def test_the_parts_are_the_whole_in_order_and_small(groups, k, dim):
    whole = inputs_of(groups, 1, k)
    cut = parts(whole, dim)
    for name, array in whole.items():
        if name.startswith(("candidate", "retrieved")):
            assert np.array_equal(np.concatenate([part[name] for part in cut], axis=1), array)
        else:
            assert all(part[name] is array for part in cut)
    candidate = k * dim * 4
    assert all(part["retrieved_row"].size * dim * 4 <= module.PART_BYTES + candidate for part in cut)
    assert len(cut) <= groups * candidate // module.PART_BYTES + 1


@pytest.mark.parametrize(("groups", "places"), [(1, 700), (180, 4), (1, 1)])
def test_candidates_that_share_a_list_are_not_parted(groups, places):
    whole = inputs_of(groups, places, 1_000)
    (part,) = parts(whole, 512)
    assert part is whole


def test_a_model_without_retrieved_behaviours_is_not_parted():
    whole = {"candidate_row": np.zeros((1, 1, 9), np.int32), "bucket_sum": np.zeros((1, 2, 2), np.float32)}
    assert parts(whole, 64) == [whole]


@pytest.mark.parametrize("model", ["eta", "sim_soft", "twin", "twin_v2", "sim_hard"])
def test_scores_and_weights_are_those_of_the_whole(world, model, monkeypatch):
    folder = world.bundles / model
    bundle = Bundle(folder / versions(folder)[-1])
    graph = Graph(bundle, "cpu", 1)
    call, fetched = made_up(bundle, 90, 400, seed=3)
    inputs = search(call, fetched, bundle).inputs
    whole = graph.run(inputs, weights=True)
    monkeypatch.setattr(module, "PART_BYTES", 40_000)
    apart = graph.run(inputs, weights=True)
    dealt = inputs["candidate_row"].shape[2] > 1
    assert dealt or len(parts(inputs, bundle.tables["item_vector"].shape[1])) > 5
    np.testing.assert_allclose(apart.logit, whole.logit, atol=2e-6)
    assert (apart.weight is None) == (whole.weight is None)
    if whole.weight is not None:
        np.testing.assert_allclose(apart.weight, whole.weight, atol=1e-6)
