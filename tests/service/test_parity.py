"""One request, one score: torch, onnxruntime and /score over HTTP, on real test impressions of every model."""

from dataclasses import dataclass

import numpy as np
import pytest

import service.request
from export.batches import SearchedRequest, own_clusters, search_request
from export.bundle import torch_scores
from export.models import list_models
from export.precompute import item_tables
from service.attend import Graph
from service.behaviours import Fetched, StoreReader
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import Call, ScoreRequest
from service.search import Searched, search
from store.bundle import Bundle
from store.connection import connect
from store.graph_inputs import scores_of
from store.search import SEARCHES
from store.types import Candidates, Floats

IMPRESSIONS = 200  # at least, per model
TOLERANCE = 1e-5
TOGETHER = 1e-6  # a candidate alone against the same one among others


@dataclass(frozen=True)
class Compared:
    """Some real requests of one model, scored three ways."""

    model: str
    bodies: list[dict]
    offline: list[SearchedRequest]
    online: list[Searched]
    answers: list[dict]
    torch: list[Floats]
    onnxruntime: list[Floats]

    @property
    def http(self) -> list[Floats]:
        return [np.array(answer["scores"], np.float32) for answer in self.answers]


@pytest.fixture(scope="module")
def chosen(world):
    """Test requests: some by chance, and those with the longest and the shortest histories."""
    requests = world.dataset.requests["test"]
    length = np.array([len(world.dataset.history(int(u), int(t))) for u, t in zip(requests.user, requests.at, strict=True)])
    by_length = np.argsort(length, kind="stable")
    by_chance = np.random.default_rng(7).choice(len(requests), 24, replace=False)
    return [int(index) for index in np.unique(np.concatenate([by_length[:3], by_length[-3:], by_chance]))]


@pytest.fixture(scope="module", params=list_models())
def compared(request, world, scorer, chosen):
    model, dataset, requests = request.param, world.dataset, world.dataset.requests["test"]
    run, registry = world.runs[model], world.dataset.registry
    tables = item_tables(dataset.items, run.model)
    offline_search = SEARCHES[run.model.search_name](run.model.search_spec, tables)
    bundle = bundle_of(world, model)
    graph = Graph(bundle, "cpu", 1)
    result = Compared(model, [], [], [], [], [], [])
    for index in chosen:
        row, at = requests.items(index)[0], int(requests.at[index])
        user, history = int(requests.user[index]), dataset.history(int(requests.user[index]), int(requests.at[index]))
        candidates = Candidates(row, registry.category[row])

        clusters = own_clusters(offline_search, history, at, tables, dataset.schema)
        asked = (candidates, history, at, requests.context[index], clusters)
        offline = search_request(offline_search, run.model.config.recent, *asked)
        result.offline.append(offline)
        result.torch.append(torch_scores(run, offline, tables))

        call = Call(dataset.user_ids[user], candidates, at, at, dataset.schema.encode_context({}, at), 0, 0)
        result.online.append(search(call, Fetched(history), bundle))
        fed = search(call, Fetched(history), bundle, takes=graph.takes)
        result.onnxruntime.append(scores_of(graph.run(fed.inputs).logit))

        body = {
            "user_id": dataset.user_ids[user], "item_ids": [registry.ids[r - 2] for r in row.tolist()], "at": at, "model": model,
        }  # fmt: skip
        result.bodies.append(body)
        result.answers.append(scored(scorer, body))
    return result


def bundle_of(world, model):
    (folder,) = (world.bundles / model).iterdir()
    return Bundle(folder)


def scored(scorer, body):
    response = scorer.post("/score", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def served_scores(scorer, body, item_ids):
    return np.array(scored(scorer, body | {"item_ids": item_ids})["scores"])


def largest_difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def test_there_are_enough_impressions(compared):
    assert sum(map(len, compared.http)) >= IMPRESSIONS


def test_there_are_long_lives_among_them(compared):
    assert max(len(request.behaviours) for request in compared.offline) > 2000


def test_onnxruntime_scores_as_torch_does(compared):
    assert largest_difference(compared.torch, compared.onnxruntime) <= TOLERANCE


def test_the_service_scores_as_torch_does(compared):
    assert largest_difference(compared.torch, compared.http) <= TOLERANCE


def test_the_service_scores_as_onnxruntime_does(compared):
    assert largest_difference(compared.onnxruntime, compared.http) <= TOLERANCE


def test_scores_differ_from_candidate_to_candidate(compared):
    """Otherwise the comparisons above would say nothing."""
    assert max(float(np.ptp(scores)) for scores in compared.http) > 100 * TOLERANCE


def test_the_service_searches_what_training_searched(compared):
    for offline, online in zip(compared.offline, compared.online, strict=True):
        for name in ("index", "mask", "place"):
            assert (getattr(offline.retrieved, name) == getattr(online.retrieved, name)).all(), name


def test_the_graph_is_fed_what_it_was_trained_on(compared):
    for offline, online in zip(compared.offline, compared.online, strict=True):
        assert len(online.inputs) >= 4  # those that the graph reads, and what every search gives
        for name, array in online.inputs.items():
            assert (array == offline.inputs[name]).all(), name


def test_the_service_says_how_many_behaviours_the_search_ran_over(compared):
    assert [answer["behaviours"] for answer in compared.answers] == [r.retrieved.searched for r in compared.offline]


def test_nothing_is_missing_and_nothing_unknown(compared):
    assert all(answer["degraded"] == [] and answer["unknown_items"] == 0 for answer in compared.answers)


def test_permuted_candidates_have_permuted_scores(compared, scorer):
    random = np.random.default_rng(1)
    for body, scores in zip(compared.bodies, compared.http, strict=True):
        order = random.permutation(len(scores))
        again = served_scores(scorer, body, [body["item_ids"][i] for i in order])
        np.testing.assert_allclose(again, scores[order], atol=TOGETHER, rtol=0)


def test_one_by_one_gives_the_scores_of_all_together(compared, scorer):
    for body, scores in list(zip(compared.bodies, compared.http, strict=True))[::6]:
        alone = [served_scores(scorer, body, [item])[0] for item in body["item_ids"]]
        np.testing.assert_allclose(alone, scores, atol=TOGETHER, rtol=0)


def test_candidates_among_a_thousand_score_as_among_themselves(compared, scorer, world):
    body, scores = compared.bodies[-1], compared.http[-1]
    others = world.dataset.registry.ids[: 1000 - len(scores)]
    together = served_scores(scorer, body, [*others, *body["item_ids"]])
    np.testing.assert_allclose(together[len(others) :], scores, atol=TOGETHER, rtol=0)


def test_duplicates_have_equal_scores(compared, scorer):
    body, scores = compared.bodies[0], compared.http[0]
    doubled = served_scores(scorer, body, body["item_ids"] * 3)
    np.testing.assert_allclose(doubled, np.tile(scores, 3), atol=TOGETHER, rtol=0)


def test_a_live_request_scores_as_the_same_one_replayed(compared, world, monkeypatch):
    """Without `at`: the newest list as it is, gaps to the clock. With `at` of the same second: the same numbers."""
    body = compared.bodies[0]
    now = int(world.dataset.ts.max()) + 3600
    monkeypatch.setattr(service.request.time, "time", lambda: now + 0.5)
    client = connect(world.store_url)
    metrics = Metrics()
    store = StoreReader(client, metrics)
    scorer = Scorer(Bundles(world.bundles, "", "", Loading("cpu", 1), metrics), store)
    fields = {name: value for name, value in body.items() if name != "at"}
    live, replayed = (
        score(ScoreRequest.model_validate(request), scorer, StageTimer()) for request in (fields, fields | {"at": now})
    )
    client.close()
    assert live.behaviours == replayed.behaviours > 0
    assert (live.scores == replayed.scores).all()
