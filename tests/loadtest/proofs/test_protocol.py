"""What is concluded from a client of the Open Inference Protocol, over a scorer that answers it."""

import base64
import hashlib
from importlib.metadata import PathDistribution

import pytest

from loadtest.proofs import protocol
from loadtest.proofs.protocol import changed_row, rows_of, worthless
from loadtest.scorer_client import ScorerClient
from tests.service.serving import served
from tests.service.tiny import ITEMS, SEARCH_OF, USER, Tiny

MODELS, IDS = list(SEARCH_OF), [*ITEMS, "nothing", "i1"]
REQUESTS = [{"user_id": USER, "item_ids": IDS, "at": 1_000}] * 3


@pytest.fixture(scope="module")
def url(tmp_path_factory, store_url):
    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"), "proved")
    for model in MODELS:
        tiny.add(model)
    tiny.fill(store_url)
    with served(tiny.bundles, store_url) as (client, _):
        yield str(client.base_url).rstrip("/")


def missed(url, requests=REQUESTS, models=MODELS):
    return [number for number, row in enumerate(rows_of(url, models, requests)) if not row.met]


def test_a_scorer_that_answers_both_alike_is_met(url):
    rows = rows_of(url, MODELS, REQUESTS)
    assert [(row.met, row.n) for row in rows] == [(True, 16), (True, 9), (True, 9), (True, 9)]
    assert "(72 scores are the same;" in rows[2].value
    assert all(row.seconds > 0 for row in rows)


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"scores": [0.5, *[0.25] * (len(IDS) - 1)]}, [2, 3]),
        ({"version": "20270131T120000Z"}, [2, 3]),
        ({"unknown_items": 0}, [2, 3]),
        ({"behaviours": 0}, [1, 2, 3]),
        ({"degraded": ["store_down"]}, [1, 2, 3]),
    ],
)
def test_an_answer_of_score_that_is_another_is_missed(url, monkeypatch, changes, rows):
    score = ScorerClient.score

    def another(self, request):
        own, stages = score(self, request)
        return own | changes, stages

    monkeypatch.setattr(ScorerClient, "score", another)
    assert missed(url) == rows


@pytest.mark.parametrize(
    ("method", "answer"),
    [("is_server_live", False), ("is_server_ready", False), ("is_model_ready", True), ("is_model_ready", False)],
)
def test_a_scorer_that_is_not_as_it_says_is_missed(url, monkeypatch, method, answer):
    monkeypatch.setattr(protocol.triton.InferenceServerClient, method, lambda *_: answer)
    assert missed(url) == [0]


def test_calls_that_are_not_answered_are_missed(url, monkeypatch):
    tensor = protocol._tensor
    monkeypatch.setattr(protocol, "_tensor", lambda name, *rest: tensor(name.replace("user_id", "users"), *rest))
    rows = rows_of(url, MODELS, REQUESTS)
    assert [row.met for row in rows] == [True, True, False, False]
    assert rows[2].value.startswith("9: din: [422] inputs: users, item_ids; needed are")


def test_answers_that_are_equal_and_say_nothing():
    good = {"degraded": [], "behaviours": 4, "scores": [0.1, 0.2]}
    assert worthless(good) == ""
    for changes in ({"behaviours": 0}, {"degraded": ["store_down"]}, {"scores": [0.1, 0.1]}, {"scores": [0.1, float("nan")]}):
        assert worthless(good | changes)


def test_a_package_that_was_changed_is_found(tmp_path):
    (tmp_path / "client.py").write_bytes(b"as published")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"as published").digest()).rstrip(b"=").decode()
    info = tmp_path / "client-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: client\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"client.py,sha256={digest},12\nclient.pyc,,\n")
    row = changed_row(PathDistribution(info))
    assert (row.met, row.n, row.value) == (True, 1, "0")
    (tmp_path / "client.py").write_bytes(b"as wished for")
    row = changed_row(PathDistribution(info))
    assert (row.met, row.value) == (False, "1: client.py")
    (tmp_path / "client.py").unlink()
    assert not changed_row(PathDistribution(info)).met
    (info / "RECORD").write_text("client.pyc,,\n")
    assert not changed_row(PathDistribution(info)).met
