"""What the page is told of a search's choice."""

from types import SimpleNamespace

import numpy as np
import pytest

from service.attend import Attended
from service.behaviours import Fetched
from service.picked import NEWEST_FOLDED, picked
from service.search import Searched
from store.types import Behaviours, Retrieved

LOGIT = np.zeros(2, np.float32)


def life(count, gap_s=1, size=None):
    ones = np.full(count, 2, np.int32)
    return Behaviours(ones, ones, 1000 + gap_s * np.arange(count), np.zeros((count, 1), np.uint8), size)


def bundle_of(tiny_bundle, search="newest", explains=True, state=()):
    """A bundle that says this of itself."""
    manifest = SimpleNamespace(search=SimpleNamespace(name=search), recent=4, explains=explains, state=state)
    return SimpleNamespace(manifest=manifest, registry=tiny_bundle.registry)


def of(bundle, behaviours, index, searched=None, attended=None, mask=None):
    index = np.array(index, np.int32)
    real = np.ones(index.shape, np.bool_) if mask is None else np.array(mask)
    place = np.arange(2, dtype=np.int32)
    retrieved = Retrieved(index, real, place, len(behaviours) if searched is None else searched)
    return picked(Fetched(behaviours), Searched(behaviours, retrieved, {}), attended or Attended(LOGIT, None), bundle)


def plain(column):
    return [np.asarray(one).tolist() for one in column]


def test_a_behaviour_is_named_once_however_many_picked_it(din):
    found = of(bundle_of(din), life(10), [[1, 3, 5], [3, 5, 9]])
    assert found["behaviours"]["ts"].tolist() == [1001, 1003, 1005, 1009]
    assert plain(found["lists"]) == [[0, 1, 2], [1, 2, 3]]
    assert found["list_of"] == [0, 1]
    assert found["behaviours"]["item_id"] == ["i1"] * 4


def test_weights_go_along_with_the_list_and_padding_has_none(din):
    weight = np.array([[0.25, 0.75, 0.5], [0.5, 0.125, 0.375]], np.float32)
    found = of(
        bundle_of(din), life(10), [[1, 3, 0], [3, 5, 9]], attended=Attended(LOGIT, weight), mask=[[True, True, False], [True] * 3]
    )
    assert plain(found["weights"]) == [[0.25, 0.75], [0.5, 0.125, 0.375]]
    assert plain(found["lists"]) == [[0, 1], [1, 2, 3]]


def test_what_a_graph_found_itself_is_told_in_place_of_an_empty_list(din):
    index, weight = np.array([[2, 4], [4, 6]], np.int32), np.full((2, 2), 0.5, np.float32)
    none = np.zeros((2, 0), np.int32)
    found = of(bundle_of(din), life(10), none, attended=Attended(LOGIT, weight, index=index), mask=none.astype(bool))
    assert found["behaviours"]["ts"].tolist() == [1002, 1004, 1006]


@pytest.mark.parametrize("explains", [True, False])
def test_a_model_without_weights_has_lists_all_the_same(din, explains):
    weight = None if explains else np.ones((2, 2), np.float32)  # that the manifest does not vouch for
    found = of(bundle_of(din, explains=explains), life(4), [[2, 3]], attended=Attended(LOGIT, weight))
    assert found["weights"] is None
    assert plain(found["lists"]) == [[0, 1]]
    assert found["state"] is None


@pytest.mark.parametrize(("gap_s", "sessions"), [(1800, 1), (1801, 6)])
def test_sessions_are_counted_as_they_were_cut(din, gap_s, sessions):
    assert of(bundle_of(din, "sessions"), life(6, gap_s), [range(6)])["sessions"] == sessions
    assert of(bundle_of(din), life(6, gap_s), [range(6)])["sessions"] is None


def test_a_state_is_two_numbers_and_the_newest_that_were_folded(din):
    bundle, count = bundle_of(din, "life", explains=False, state=("memory",)), NEWEST_FOLDED + 50
    found = of(bundle, life(count), [range(count)], searched=count + 7000)
    assert found["state"] == {"snapshot": 7000, "folded": count}
    assert found["behaviours"]["ts"].tolist() == list(range(1050, 1000 + count))
    late = of(bundle, life(count), [range(count)], searched=count + 7000, attended=Attended(LOGIT, None, state_missing=True))
    assert late["state"] == {"snapshot": 7000, "folded": 0}
    assert late["lists"][0].tolist() == []


def test_a_cluster_says_of_how_many_it_is(din):
    found = of(bundle_of(din, "clusters"), life(3, size=np.array([9, 1, 4], np.int32)), [[0, 2]])
    assert found["behaviours"]["size"].tolist() == [9, 4]


def test_nobody_has_nothing(din):
    for search in ("newest", "sessions"):
        found = of(bundle_of(din, search), life(0), [[0]], mask=[[False]])
        assert (found["behaviours"]["item_id"], plain(found["lists"]), found["sessions"]) == ([], [[]], None)
