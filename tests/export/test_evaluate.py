"""Evaluation on own data: subsets, cut histories, another search in place of the model's own."""

import dataclasses

import numpy as np
import pytest
import torch

from export.data.prepare import prepare
from export.evaluate import evaluate, judge, past, reads_beyond_newest, score_requests
from export.metrics import figures
from export.models import build, list_models
from export.models.registry import model_type
from export.run import data_shape
from store.search.life import LifeSearch
from tests.export.data import own


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return prepare(str(own.write(folder / "shop")), into=folder / "data")


def model_of(shop, name, **config):
    torch.manual_seed(0)
    return build(name, data_shape(shop), **config)


def first(shop, count=40):
    return shop.requests["test"].select(np.arange(count))


def test_the_past_is_what_lies_strictly_before_the_impression(shop):
    requests = first(shop)
    before = past(shop, requests)
    for request in range(len(requests)):
        start, end = shop.user_start[requests.user[request]], shop.user_start[requests.user[request] + 1]
        seen = shop.row[start:end][shop.ts[start:end] < requests.at[request]].tolist()
        for impression in range(requests.start[request], requests.start[request + 1]):
            assert before.behaviours[impression] == len(seen)
            assert before.first_time[impression] == (requests.row[impression] not in seen)
    assert 0 < before.first_time.mean() < 1


def test_heavy_users_and_first_time_items_have_figures_of_their_own(shop, monkeypatch):
    monkeypatch.setattr("export.evaluate.HEAVY", 80)
    requests = first(shop, 200)
    before = past(shop, requests)
    scores = np.random.default_rng(0).random(len(requests.row)).astype(np.float32)
    result = judge(requests, scores, before, "all")
    user = np.repeat(requests.user, np.diff(requests.start))
    heavy = before.behaviours >= 80
    assert 0 < heavy.sum() < len(heavy)
    assert result.heavy == figures(user[heavy], requests.label[heavy], scores[heavy])
    assert result.first_time.impressions == before.first_time.sum()
    assert result.figures == figures(user, requests.label, scores)
    assert sum(result.calibration.impressions) == len(requests.row)


def test_models_that_read_more_than_the_newest_list_are_known_by_their_search():
    beyond = {name for name in list_models() if reads_beyond_newest(model_type(name))}
    assert beyond == {"sim_hard", "sim_soft", "eta", "twin", "twin_v2", "sdim", "mimn"}


@pytest.mark.parametrize("name", [name for name in list_models() if reads_beyond_newest(model_type(name))])
def test_a_cut_history_scores_as_if_nothing_had_been_before(shop, name):
    requests, model = first(shop), model_of(shop, name)
    cut = score_requests(shop, requests, model, newest=10)
    assert not np.allclose(cut, score_requests(shop, requests, model), atol=1e-4)
    assert np.allclose(score_requests(shop, requests, model, newest=10_000), score_requests(shop, requests, model), atol=1e-6)
    some = 7  # one request, in a data set that holds no other behaviour of its user
    user, at = int(requests.user[some]), int(requests.at[some])
    start = int(shop.user_start[user])
    end = start + len(shop.history(user, at))
    forgotten = shop.user_start.copy()
    forgotten[user] = end - 10
    short = dataclasses.replace(shop, user_start=forgotten)
    alone = score_requests(short, requests.select(np.array([some])), model)
    assert np.allclose(cut[requests.start[some] : requests.start[some + 1]], alone, atol=1e-6)


@pytest.mark.parametrize("name", ["eta", "twin"])
def test_attending_to_the_whole_life_is_a_search_that_returns_everything(shop, name):
    requests = first(shop)
    few, all_of_them = model_of(shop, name, k=5), model_of(shop, name, k=1000)
    whole = score_requests(shop, requests, few, search=LifeSearch)
    assert np.allclose(whole, score_requests(shop, requests, all_of_them), atol=1e-5)
    assert not np.allclose(whole, score_requests(shop, requests, few), atol=1e-3)


def test_an_evaluation_says_how_far_it_is(shop):
    told = []
    result = evaluate(shop, model_of(shop, "din"), sample=70, progress=lambda done, total: told.append((done, total)))
    assert told == [(32, 70), (64, 70), (70, 70)]
    assert result.sample.startswith("70 of ")
