import numpy as np
import pytest

from store.graph_inputs import AXES, cross_with_gap, graph_inputs, list_inputs, recent_inputs, stack
from store.search.spec import nothing
from store.types import Behaviours, Candidates, Retrieved
from tests.store.events import behaviours_of

AT = 1000
CONTEXT = np.array([5, 6], np.int32)
LIFE = behaviours_of((12, 2, 880, 7), (13, 3, 940, 8), (14, 2, 999, 9))
CANDIDATES = Candidates(np.array([21, 22, 23], np.int32), np.array([2, 3, 2], np.int32))
# two groups of two places; the second has a candidate and padding, and one real behaviour of two
RETRIEVED = Retrieved(
    index=np.array([[0, 2], [1, 0]], np.int32),
    mask=np.array([[True, True], [True, False]]),
    place=np.array([0, 2, 1, -1], np.int32),
    searched=3,
)


def inputs_of(behaviours=LIFE, retrieved=RETRIEVED, recent=2):
    inputs = graph_inputs(CANDIDATES, behaviours, cross_with_gap(behaviours, AT), retrieved, CONTEXT)
    return inputs | recent_inputs(behaviours, AT, recent)


def test_the_gap_stands_before_the_stored_features():
    assert cross_with_gap(LIFE, AT).tolist() == [[4, 7], [2, 8], [1, 9]]  # 120 s, 60 s, 1 s
    assert cross_with_gap(LIFE, AT).dtype == np.int32


def test_no_behaviours_have_no_cross_features():
    assert cross_with_gap(Behaviours.empty(3), AT).shape == (0, 4)


def test_candidates_stand_at_their_places_and_padding_is_row_0():
    assert inputs_of()["candidate_row"].tolist() == [[[21, 23], [22, 0]]]


def test_retrieved_behaviours_are_rows_and_padding_is_row_0():
    assert inputs_of()["retrieved_row"].tolist() == [[[12, 14], [13, 0]]]


def test_retrieved_cross_features_travel_with_their_rows():
    assert inputs_of()["retrieved_cross"].tolist() == [[[[4, 7], [1, 9]], [[2, 8], [0, 0]]]]


def test_the_mask_travels_with_what_was_retrieved():
    assert inputs_of()["retrieved_mask"].tolist() == [[[True, True], [True, False]]]


def test_the_context_is_given_once_per_request():
    assert inputs_of()["context"].tolist() == [[5, 6]]


def test_the_short_branch_gets_the_newest_oldest_first():
    inputs = inputs_of(recent=2)
    assert inputs["recent_row"].tolist() == [[13, 14]]
    assert inputs["recent_cross"].tolist() == [[[2, 8], [1, 9]]]
    assert inputs["recent_mask"].tolist() == [[True, True]]


def test_a_short_life_gives_the_short_branch_what_there_is():
    assert inputs_of(recent=50)["recent_row"].tolist() == [[12, 13, 14]]


def test_a_model_without_a_short_branch_gets_no_recent_inputs():
    assert not any(name.startswith("recent") for name in inputs_of(recent=0))
    assert len(inputs_of(recent=2)) == len(inputs_of(recent=0)) + 3


def test_every_candidate_is_told_where_it_stands():
    places = inputs_of()["candidate_place"]
    assert places.dtype == np.int32
    assert inputs_of()["candidate_row"].reshape(-1)[places[0]].tolist() == CANDIDATES.row.tolist()


def test_the_gap_alone_is_the_first_of_the_cross_features():
    inputs = inputs_of()
    assert inputs["retrieved_gap"].tolist() == inputs["retrieved_cross"][..., 0].tolist() == [[[4, 1], [2, 0]]]


def test_what_is_costly_is_made_only_when_it_is_wanted():
    made = graph_inputs(CANDIDATES, LIFE, cross_with_gap(LIFE, AT), RETRIEVED, CONTEXT, {"retrieved_gap"})
    assert sorted(made) == ["candidate_row", "context", "retrieved_gap", "retrieved_mask", "retrieved_row"]


def test_the_empty_user_is_one_masked_behaviour_in_both_branches():
    inputs = inputs_of(Behaviours.empty(1), nothing(3))
    assert inputs["candidate_row"].tolist() == [[[21], [22], [23]]]
    assert inputs["retrieved_row"].tolist() == [[[0], [0], [0]]]
    assert not inputs["retrieved_mask"].any()
    assert not inputs["retrieved_cross"].any()
    assert (inputs["recent_row"].tolist(), inputs["recent_mask"].tolist()) == ([[0]], [[False]])
    assert inputs["recent_cross"].tolist() == [[[0, 0]]]


@pytest.mark.parametrize(
    "inputs", [inputs_of(), inputs_of(Behaviours.empty(1), nothing(3))], ids=["three behaviours", "the empty user"]
)
def test_every_input_has_its_axes_and_type(inputs):
    sizes = {"U": 1, "1+J": 2, "F": 2}
    assert sorted(inputs) == sorted(AXES)
    for name, array in inputs.items():
        assert array.ndim == len(AXES[name]), name
        assert array.dtype == (np.bool_ if name.endswith("_mask") else np.int32), name
        for axis, size in zip(AXES[name], array.shape, strict=True):
            assert sizes.setdefault(axis, size) == size, (name, axis)


@pytest.mark.parametrize("life", [LIFE, Behaviours(LIFE.row, LIFE.category, LIFE.ts, LIFE.cross, np.array([4, 1, 9], np.int32))])
def test_in_lists_each_candidate_has_what_its_group_has(life):
    cross = cross_with_gap(life, AT)
    groups, lists = (make(CANDIDATES, life, cross, RETRIEVED, CONTEXT) for make in (graph_inputs, list_inputs))
    assert lists["candidate_row"].tolist() == [[[21, 22, 23]]]
    assert "candidate_place" not in lists
    assert lists["retrieved_mask"].all()
    assert lists["retrieved_row"].tolist() == [[[12, 13, 14]]]  # each once
    assert lists["list_of"].tolist() == [0, 1, 0]
    assert lists["list_size"].tolist() == [2, 1]
    for name in ("retrieved_row", "retrieved_gap", "retrieved_cross", "retrieved_size"):
        gathered = lists[name][0, 0][lists["list_index"]]  # [G, K, *]
        assert np.array_equal(gathered[RETRIEVED.mask], groups[name][0][RETRIEVED.mask]), name
    assert np.array_equal(lists["context"], groups["context"])


def test_in_lists_the_empty_user_has_one_row_of_padding():
    none = Behaviours.empty(1)
    lists = list_inputs(CANDIDATES, none, cross_with_gap(none, AT), nothing(3), CONTEXT)
    assert lists["retrieved_row"].tolist() == [[[0]]]
    assert lists["list_size"].tolist() == [0, 0, 0]
    assert lists["list_of"].tolist() == [0, 1, 2]


def test_stacked_requests_keep_their_values_and_are_filled_with_padding():
    joined = stack([inputs_of(), inputs_of(behaviours_of((12, 2, 880, 7)), nothing(3), recent=2)])
    assert joined["candidate_row"].tolist() == [[[21, 23], [22, 0], [0, 0]], [[21, 0], [22, 0], [23, 0]]]
    assert joined["retrieved_mask"].tolist() == [[[True, True], [True, False], [False, False]], [[False, False]] * 3]
    assert joined["recent_row"].tolist() == [[13, 14], [12, 0]]
    assert joined["recent_mask"].tolist() == [[True, True], [True, False]]
    assert joined["context"].tolist() == [[5, 6], [5, 6]]


def test_stacking_one_request_changes_nothing():
    inputs = inputs_of()
    joined = stack([inputs])
    assert sorted(joined) == sorted(inputs)
    for name, array in inputs.items():
        np.testing.assert_array_equal(joined[name], array)
        assert joined[name].dtype == array.dtype
