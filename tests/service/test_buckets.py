import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.buckets import CANDIDATES, LIVES, Buckets, crop, pad, sizes_of
from store.bundle import Bundle
from store.life_inputs import CHUNK, MAX_LIFE
from tests.service.tiny import K

LADDERS = st.lists(st.integers(1, 5_000), min_size=1, max_size=6, unique=True).map(sorted).map(tuple)


@given(st.integers(1, MAX_LIFE))
def test_a_life_is_padded_to_whole_chunks(behaviours):
    assert Buckets({"L": LIVES}).bucket({"L": behaviours})["L"] % CHUNK == 0


@given(LADDERS, st.integers(1, 20_000))
def test_every_bucket_holds_the_request(steps, size):
    assert Buckets({"S": steps}).bucket({"S": size})["S"] >= size


@given(LADDERS, st.integers(1, 20_000))
def test_no_smaller_step_would_have_held_it(steps, size):
    bucket = Buckets({"S": steps}).bucket({"S": size})["S"]
    assert not [step for step in steps if size <= step < bucket]


@given(LADDERS, st.integers(1, 20_000))
def test_beyond_the_largest_step_buckets_are_its_multiples(steps, size):
    buckets = Buckets({"S": steps})
    bucket = buckets.bucket({"S": size})
    assert buckets.lists(bucket) == (size <= steps[-1])
    assert bucket["S"] % steps[-1] == 0 or size <= steps[-1]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5), st.integers(1, 4))
def test_what_is_padded_and_cropped_is_what_it_was(groups, places, more_groups, more_places, k):
    sizes = {"G": groups, "S": places, "K": k}
    bucket = {"G": groups + more_groups, "S": places + more_places, "K": k + 2}
    weight = np.random.default_rng(0).random((1, groups, places, k), np.float32)
    padded = pad(weight, (1, bucket["G"], bucket["S"], bucket["K"]), "f4")
    of_graph = padded.reshape(1, bucket["G"] * bucket["S"], bucket["K"])
    assert (crop(of_graph, sizes, bucket) == weight.reshape(1, -1, k)).all()
    assert (crop(of_graph[..., 0], sizes, bucket) == weight[..., 0].reshape(1, -1)).all()


@given(st.integers(1, 9), st.integers(0, 5))
def test_logits_in_the_candidates_order_are_those_of_the_first(candidates, more):
    logit = np.random.default_rng(0).random((1, candidates + more), np.float32)
    sizes, bucket = ({"G": 3, "S": 4, "C": size} for size in (candidates, candidates + more))
    assert (crop(logit, sizes, bucket) == logit[:, :candidates]).all()


@given(arrays(np.int32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(1, 9)))
def test_padding_is_zeros_behind(array):
    shape = (array.shape[0] + 1, array.shape[1] + 2)
    padded = pad(array, shape, "i4")
    assert padded.shape == shape
    assert padded.sum() == array.sum()
    assert (padded[: array.shape[0], : array.shape[1]] == array).all()


@pytest.mark.parametrize(
    ("model", "steps"),
    [
        ("din", {"G": (1,), "S": CANDIDATES}),  # one list for all
        ("sim_hard", {"G": CANDIDATES, "S": (4,)}),  # four to a list
        ("eta", {"G": CANDIDATES, "S": (1,)}),  # a list each
    ],
)
def test_buckets_of_a_bundle_follow_how_its_search_deals_candidates(shared_tiny, model, steps, request):
    bundle: Bundle = request.getfixturevalue(model)
    found = Buckets.of(bundle).steps
    assert {letter: found[letter] for letter in steps} == steps
    assert (found["K"], found["R"], found["1+J"], found["F"]) == ((K,), (1,), (2,), (3,))


def test_the_largest_bucket_is_captured_first(eta):
    found = Buckets.of(eta).all({"U", "G", "S", "L"})
    assert len(found) == len(CANDIDATES) * len(LIVES)
    assert found[0] == {"U": 1, "G": CANDIDATES[-1], "S": 1, "L": LIVES[-1]}


def test_buckets_that_no_request_has_are_not_captured(sim_hard):
    found = [(one["G"], one["C"]) for one in Buckets.of(sim_hard, candidates=(64, 128, 256)).all({"U", "G", "S", "C"})]
    assert sorted(found) == [(64, 64), (64, 128), (64, 256), (128, 128), (128, 256), (256, 256)]


def test_no_life_that_a_bucket_is_kept_for_is_too_long_for_the_graph():
    assert LIVES[-1] <= MAX_LIFE


def test_sizes_are_those_of_the_axes():
    inputs = {"candidate_row": np.zeros((1, 7, 4)), "retrieved_mask": np.zeros((1, 7, 9)), "state": np.zeros((1, 3))}
    assert sizes_of(inputs, ["candidate_row", "retrieved_mask", "state"]) == {"U": 1, "G": 7, "S": 4, "K": 9}
