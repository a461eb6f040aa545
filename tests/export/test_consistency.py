"""Search consistency: searches whose figure is known beforehand."""

import numpy as np
import pytest
import torch

from export import consistency as module
from export.consistency import RANKS, consistency, has_consistency, heaviest, merged, returned
from export.data.prepare import prepare
from export.models import build, list_models
from export.models.registry import model_type
from export.run import data_shape
from store.search import SEARCHES
from store.search.hamming import HammingSearch
from store.search.projection import ProjectionSearch
from store.search.spec import SearchSpec, nothing
from store.types import Behaviours, Candidates, Retrieved
from tests.export.data import own


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three users with a thousand behaviours each."""
    folder = tmp_path_factory.mktemp("shop")
    table = own.interactions()
    table["user_id"] = [f"u{i % 3}" for i in range(len(table))]
    return prepare(str(own.write(folder / "shop", table)), into=folder / "data")


def model_of(shop, name, seed=0, **config):
    torch.manual_seed(seed)
    return build(name, data_shape(shop), **config)


def newest_30(candidates, behaviours, cross):
    index = np.arange(len(behaviours) - 30, len(behaviours), dtype=np.int32)
    return Retrieved(index[None], np.ones((1, 30), bool), np.arange(len(candidates.row), dtype=np.int32), 30)


def searched_by(monkeypatch, search):
    monkeypatch.setitem(SEARCHES, "hamming", type("Own", (HammingSearch,), {"__call__": lambda self, *request: search(*request)}))


def test_the_heaviest_come_first_and_equal_weights_newest_first():
    weight = np.array([[0.1, 0.4, 0.1, 0.4, 0.0]], np.float32)
    assert heaviest(weight, 4).tolist() == [[3, 1, 2, 0]]


def test_what_a_group_retrieved_counts_for_each_of_its_candidates_and_padding_for_none():
    index, mask = np.array([[0, 3], [2, 0]], np.int32), np.array([[True, True], [True, False]])
    place = np.array([1, 2, 0, -1], np.int32)  # candidates 1 and 2 in the first group, 0 in the second
    found = returned(Retrieved(index, mask, place, 4), 3, 4)
    assert found.astype(int).tolist() == [[0, 0, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1]]


def test_a_search_that_returns_everything_has_100_of_100(shop):
    result = consistency(shop, model_of(shop, "eta", k=1024), requests=5)
    assert result.found["search"].of_100 == 100
    assert result.found["search"].share == [1.0] * len(RANKS)
    assert (result.requests, result.kept) == (5, 1024)
    assert result.sample == f"5 test requests with more than 100 behaviours, {result.candidates} candidates, seed 7"


def test_a_search_that_returns_nothing_has_none(shop, monkeypatch):
    searched_by(monkeypatch, lambda candidates, *_: nothing(len(candidates.row)))
    assert consistency(shop, model_of(shop, "eta"), requests=5).found["search"].of_100 == 0


def test_a_search_for_the_newest_30_has_30_where_weights_fall_with_age(shop, monkeypatch):
    searched_by(monkeypatch, newest_30)

    def by_time(model, tables, inputs):
        count = inputs["candidate_row"].shape[2]
        return np.tile(np.arange(inputs["retrieved_row"].shape[2], dtype=np.float32), (count, 1))

    monkeypatch.setattr(module, "attention", by_time)
    found = consistency(shop, model_of(shop, "eta"), requests=5).found["search"]
    assert found.of_100 == pytest.approx(30)
    assert found.share == pytest.approx([min(1, 30 / n) for n in RANKS])


def test_weights_on_the_whole_life_are_those_of_the_attention(shop, monkeypatch):
    seen = []
    original = module.attention
    monkeypatch.setattr(module, "attention", lambda *arguments: seen.append(original(*arguments)) or seen[-1])
    consistency(shop, model_of(shop, "twin"), requests=1)
    assert seen[0].shape[1] > 500
    assert np.allclose(seen[0].sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("name", ["twin", "twin_v2"])
def test_one_list_by_the_mean_of_the_heads_is_what_the_attention_ranks_by(shop, name):
    found = consistency(shop, model_of(shop, name), requests=10).found
    assert found["merged"].of_100 == pytest.approx(100, abs=0.2)  # but for rounding at the hundredth place
    assert found["search"].of_100 < found["merged"].of_100
    assert set(found) == {"search", "merged"}


def test_merged_ranks_by_the_mean_over_heads_of_their_softmax():
    query = np.eye(2, dtype=np.float32)[None].repeat(2, 0)  # [N, H, d]: head h reads number h of a key
    key = np.zeros((4, 2, 2), np.float32)  # [N, H, d] of items 0..3
    key[1, 0, 0], key[2, 1, 1], key[3, :, :] = 5, 5, 2  # item 3 is second best of both heads
    bias = np.zeros((1, 1, 2), np.float32)
    tables = {"key_projection": key, "query_projection": np.concatenate([query, query]), "cross_bias": bias}
    search = ProjectionSearch(SearchSpec(name="projection", k=2), tables)
    row = np.array([3, 1, 2], np.int32)
    behaviours = Behaviours(row, row, np.arange(3), np.zeros((3, 0), np.uint8))
    candidates = Candidates(np.array([0], np.int32), np.array([2], np.int32))
    assert merged(search, candidates, behaviours, np.zeros((3, 1), np.int32)).tolist() == [[False, True, True]]


@pytest.mark.parametrize("name", [name for name in list_models() if has_consistency(model_type(name))])
def test_old_tables_are_searched_beside_the_fresh_ones(shop, name):
    model, other = model_of(shop, name), model_of(shop, name, seed=1)
    same, old = (consistency(shop, model, old, requests=5).found for old in (model, other))
    fresh = [search for search in same if not search.endswith("_old")]
    if not SEARCHES[model.search_name].item_tables:  # nothing of it ages
        assert list(old) == ["search"]
        return
    assert list(old) == [*fresh, *(f"{search}_old" for search in fresh)]
    for search in fresh:
        assert same[f"{search}_old"] == same[search] == old[search]
        assert old[f"{search}_old"].of_100 < old[search].of_100


def test_requests_with_no_more_than_100_behaviours_are_left_out(tmp_path):
    few = prepare(str(own.write(tmp_path / "few", own.interactions().head(1500))), into=tmp_path / "data")
    assert consistency(few, model_of(few, "eta"), requests=5) is None


def test_searches_beyond_the_newest_list_that_weigh_what_they_retrieve_have_a_consistency():
    names = {name for name in list_models() if has_consistency(model_type(name))}
    assert names == {"sim_hard", "sim_soft", "eta", "twin", "twin_v2"}
