import time

import numpy as np
import pytest

import service.pipeline
from service.attend import Graph
from service.behaviours import StoreReader
from service.bundles import Bundles
from service.errors import DeadlineExceeded, NoModel, UnknownModel
from service.loading import Loading
from service.metrics import STAGES, Metrics, StageTimer
from service.pipeline import Scorer, score
from service.request import ScoreRequest
from store.connection import connect
from store.types import Behaviours
from tests.service.tiny import ITEMS, USER, expected


@pytest.fixture
def installed(tiny, store_url):
    """A tiny installation of the test's own, its store filled."""
    for model in ("din", "sim_hard", "eta"):
        tiny.add(model)
    tiny.fill(store_url)
    return tiny


@pytest.fixture
def pipeline(installed, redis):
    bundles = Bundles(installed.bundles, "", "", Loading("cpu", 1), Metrics())
    return Scorer(bundles, StoreReader(redis, Metrics()))


def asked(**fields):
    return ScoreRequest.model_validate({"user_id": USER, "item_ids": [*ITEMS, "new"], "model": "din"} | fields)


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
@pytest.mark.parametrize(("at", "used"), [(1_000, 4), (300, 2), (50, 0)])
def test_the_path_gives_the_scores_computed_by_hand(installed, pipeline, model, at, used):
    response = score(asked(model=model, at=at), pipeline, StageTimer())
    bundle = pipeline.bundles.get(model).bundle
    call = installed.call(bundle, [*ITEMS, "new"], at=at)
    history = installed.history()
    wanted = expected(installed, bundle, call, history.select(slice(used)))
    np.testing.assert_allclose(response.scores, wanted, atol=1e-6)
    assert response.degraded == []


def test_the_path_enters_every_stage_once_and_in_order(pipeline):
    entered = []

    class Watched(StageTimer):
        def enter(self, stage):
            entered.append(stage)
            super().enter(stage)

    timer = Watched()
    timer.enter("request")
    score(asked(), pipeline, timer)
    assert ["queue", *entered] == list(STAGES)


def test_a_store_that_is_down_gives_the_scores_of_a_user_without_behaviours(installed, pipeline):
    down = Scorer(pipeline.bundles, StoreReader(connect("redis://127.0.0.1:1"), Metrics()))
    response = score(asked(at=1_000), down, StageTimer())
    bundle = pipeline.bundles.get("din").bundle
    wanted = expected(installed, bundle, installed.call(bundle, [*ITEMS, "new"], at=1_000), Behaviours.empty(1))
    np.testing.assert_allclose(response.scores, wanted, atol=1e-6)
    assert response.degraded == ["store_down"]
    assert response.behaviours == 0


def slowed(step, seconds):
    def slow(*arguments, **named):
        time.sleep(seconds)
        return step(*arguments, **named)

    return slow


@pytest.mark.parametrize(("store_s", "search_s", "ends"), [(0.2, 0, False), (0.2, 0.2, True), (0, 0.2, True)])
def test_a_store_that_fails_gives_back_the_time_it_used_and_no_more(pipeline, monkeypatch, store_s, search_s, ends):
    down = Scorer(pipeline.bundles, StoreReader(connect("redis://127.0.0.1:1"), Metrics()))
    monkeypatch.setattr(StoreReader, "fetch", slowed(StoreReader.fetch, store_s))
    monkeypatch.setattr(service.pipeline, "search", slowed(service.pipeline.search, search_s))
    timer = StageTimer()
    timer.allow(100)
    if ends:
        with pytest.raises(DeadlineExceeded, match=r"^search: .* limit 100 ms"):
            score(asked(), down, timer)
    else:
        assert score(asked(), down, timer).degraded == ["store_down"]


def test_explanations_are_of_the_candidate_they_stand_at(pipeline):
    response = score(asked(model="sim_hard", explain=5), pipeline, StageTimer())
    known = [{row["category"] for row in explanation} for explanation in response.explanations[:-1]]
    assert known == [{"c1"}, {"c1"}, {"c2"}, {"c2"}, {"c3"}, {"c3"}]
    assert response.explanations[-1] == []


def test_a_model_that_does_not_explain_scores_when_explanations_are_asked_for(tiny, redis):
    tiny.add("din", explains=False)
    pipeline = Scorer(Bundles(tiny.bundles, "", "", Loading("cpu", 1), Metrics()), StoreReader(redis, Metrics()))
    response = score(asked(explain=3), pipeline, StageTimer())
    assert len(response.scores) == len(ITEMS) + 1
    assert response.explanations is None


def test_a_model_that_does_not_explain_scores(tiny, redis):
    tiny.add("din", explains=False)
    pipeline = Scorer(Bundles(tiny.bundles, "", "", Loading("cpu", 1), Metrics()), StoreReader(redis, Metrics()))
    assert len(score(asked(), pipeline, StageTimer()).scores) == len(ITEMS) + 1


def test_weights_are_not_computed_unasked(pipeline, monkeypatch):
    asked_for = []
    run = Graph.run

    def watched(self, inputs, state=None, weights=False, until=None, tables=None):
        asked_for.append(weights)
        return run(self, inputs, state, weights, until, tables)

    monkeypatch.setattr(Graph, "run", watched)
    score(asked(), pipeline, StageTimer())
    score(asked(explain=1), pipeline, StageTimer())
    assert asked_for == [False, True]


def test_an_unknown_model_is_not_a_store_fault(pipeline):
    with pytest.raises(UnknownModel):
        score(asked(model="twin"), pipeline, StageTimer())


def test_without_bundles_there_is_no_model(tmp_path, redis):
    pipeline = Scorer(Bundles(tmp_path, "", "", Loading("cpu", 1), Metrics()), StoreReader(redis, Metrics()))
    with pytest.raises(NoModel):
        score(asked(), pipeline, StageTimer())
