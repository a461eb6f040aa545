"""Folding behaviours into a state, whatever the graph is."""

import time

import numpy as np
import pytest

from store.fold import AT_ONCE, OutOfTime, fold, initial_state


class Graph:
    """Counts behaviours and remembers the last; and how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, feed):
        row = feed["behaviour_row"]
        assert row.shape[:2] == (1, 1)
        self.calls.append(row.shape[2])
        return [feed["count"] + row.shape[2], row[:, :, -1]]


EMPTY = {"count": np.zeros((1, 1), np.int64), "last": np.zeros((1, 1), np.int32)}


@pytest.mark.parametrize(("length", "at_once", "calls"), [(0, None, []), (3, 1, [1, 1, 1]), (5, 2, [2, 2, 1]), (7, None, [7])])
def test_all_behaviours_are_folded_in_order(length, at_once, calls):
    graph = Graph()
    state = fold(graph, EMPTY, np.arange(10, 10 + length, dtype=np.int32), at_once)
    assert graph.calls == calls
    assert int(state["count"][0, 0]) == length
    assert int(state["last"][0, 0]) == (9 + length if length else 0)


def test_a_very_long_life_takes_several_runs():
    graph = Graph()
    fold(graph, EMPTY, np.zeros(AT_ONCE + 1, np.int32), None)
    assert graph.calls == [AT_ONCE, 1]


def test_the_empty_state_is_what_the_tables_say():
    state = initial_state({"initial_memory": np.ones((2, 3), np.float32), "item_vector": np.zeros(1)}, ["memory"])
    assert {name: value.shape for name, value in state.items()} == {"memory": (1, 2, 3)}


def test_folding_ends_in_time():
    with pytest.raises(OutOfTime):
        fold(Graph(), EMPTY, np.zeros(3, np.int32), 1, until=time.perf_counter() - 1)
    assert fold(Graph(), EMPTY, np.zeros(3, np.int32), 1, until=time.perf_counter() + 60)["count"] == 3
