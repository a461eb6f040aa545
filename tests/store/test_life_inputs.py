import numpy as np
import pytest

from store.graph_inputs import search_inputs
from store.life_inputs import GRAPH_SEARCHES, LIFE_AXES, found_by_graph, inputs_when_searching, life_inputs
from store.search import SEARCHES, SearchSpec
from store.types import Behaviours, Candidates

ROW = np.array([2, 3], np.int32)
CANDIDATES, CONTEXT, AT = Candidates(ROW, ROW), np.zeros(1, np.int32), 10_000


def life(length, size=None):
    row = np.arange(2, 2 + length, dtype=np.int32)
    return Behaviours(row, row, np.arange(length) * 100, np.full((length, 2), 3, np.uint8), size)


def test_a_graph_is_given_of_the_life_what_it_is_given_of_the_retrieved_where_that_is_all():
    _, _, inputs = search_inputs(SEARCHES["life"](SearchSpec(name="life", k=1), {}), CANDIDATES, life(6), AT, 4, CONTEXT)
    _, of_life = life_inputs(CANDIDATES, life(6), AT, 4, CONTEXT)
    for name in ("row", "mask", "cross", "gap"):
        assert (of_life[f"life_{name}"] == inputs[f"retrieved_{name}"][0]).all()
        assert of_life[f"life_{name}"].dtype == ("u1" if name == "cross" else inputs[f"retrieved_{name}"].dtype)
    for name in ("recent_row", "recent_cross", "recent_mask", "context"):
        assert (of_life[name] == inputs[name]).all()
    assert of_life["candidate_row"].tolist() == [[[2], [3]]]  # a group each


def test_the_empty_user_has_one_masked_behaviour():
    to_find, inputs = life_inputs(CANDIDATES, Behaviours.empty(2), AT, 0, CONTEXT)
    assert to_find.searched == 0
    for name in LIFE_AXES:
        assert inputs[name].shape[:2] == (1, 1)
        assert not inputs[name].any()


def test_behaviours_are_clusters_of_one_unless_they_say_otherwise():
    assert life_inputs(CANDIDATES, life(3), AT, 0, CONTEXT)[1]["life_size"].tolist() == [[1, 1, 1]]
    sized = life(3, np.array([4, 1, 1], np.int32))
    assert life_inputs(CANDIDATES, sized, AT, 0, CONTEXT)[1]["life_size"].tolist() == [[4, 1, 1]]


@pytest.mark.parametrize(("length", "real"), [(0, 0), (2, 2), (3, 3), (50, 3)])
def test_what_a_graph_found_is_real_as_far_as_there_are_behaviours(length, real):
    to_find, _ = life_inputs(CANDIDATES, life(length), AT, 0, CONTEXT)
    found = found_by_graph(to_find, np.zeros((2, 3), np.int32), length)
    assert found.mask.sum(axis=1).tolist() == [real, real]
    assert found.place.tolist() == [0, 1]
    assert found.searched == length


@pytest.mark.parametrize("search", GRAPH_SEARCHES)
def test_tables_that_a_graphs_search_reads_are_those_of_the_kernels(search):
    kernels = SEARCHES[search]
    assert set(GRAPH_SEARCHES[search].tables) == {*kernels.item_tables, *kernels.constants}


def test_the_life_stands_in_place_of_what_was_retrieved():
    inputs = {"item_vector", "candidate_row", "retrieved_row", "retrieved_mask", "context"}
    with_life = {"item_vector", "candidate_row", "context", "life_row", "life_mask", "signature"}
    assert inputs_when_searching("hamming", inputs) == with_life
    assert inputs_when_searching("hamming", inputs | {"retrieved_cross"}) == with_life | {"life_cross"}
    assert inputs_when_searching("hamming", inputs | {"retrieved_gap"}) == with_life | {"life_gap"}
    both = inputs_when_searching("projection", inputs | {"retrieved_gap"})
    assert "life_cross" in both
    assert "life_gap" not in both
