"""The HTTP contract. `scorer` is a process over the trained world, `tiny_app` one inside this process."""

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.openapi.models import OpenAPI

import service.calls
from export.models import list_models
from export.models.registry import model_type
from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.types import Behaviours
from tests.service.serving import served, until
from tests.service.tiny import ITEMS, USER

FIELDS = ["request_id", "model", "version", "scores", "degraded", "unknown_items", "behaviours"]
STAGES = ["queue", "request", "behaviours", "search", "attend", "scores"]
MODELS = list_models()
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="session")
def real(world):
    """A real test request of a user with a few hundred behaviours, as a caller would send it."""
    dataset, requests = world.dataset, world.dataset.requests["test"]
    for index in range(len(requests)):
        history = dataset.history(int(requests.user[index]), int(requests.at[index]))
        if 300 <= len(history) <= 600:
            ids = [dataset.registry.ids[row - 2] for row in requests.items(index)[0].tolist()]
            return {"user_id": dataset.user_ids[requests.user[index]], "item_ids": ids, "at": int(requests.at[index])}, history
    raise AssertionError("no such request")


@pytest.fixture(scope="session")
def body(real):
    return real[0]


@pytest.fixture(scope="module")
def tiny_app(shared_tiny, store_url):
    """A client of a scorer inside this process, din the default model, and the application."""
    shared_tiny.fill(store_url)
    with served(shared_tiny.bundles, store_url, model="din") as (client, app):
        yield client, app


@pytest.fixture
def tiny_client(tiny_app):
    return tiny_app[0]


def asked(**fields):
    return {"user_id": USER, "item_ids": list(ITEMS)} | fields


def is_problem(response, status, field=None):
    """Whether an answer is an error as RFC 9457 has it."""
    content = response.json()
    assert response.status_code == status, content
    assert response.headers["content-type"] == "application/problem+json"
    assert content["type"] == "about:blank"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    assert content.get("field") == field
    assert response.headers["x-request-id"]
    return content


# 200


def test_an_answer_has_the_fields_of_the_contract_and_no_others(scorer, body):
    response = scorer.post("/score", json=body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == FIELDS


def test_there_is_one_probability_per_candidate(scorer, body):
    scores = scorer.post("/score", json=body).json()["scores"]
    assert len(scores) == len(body["item_ids"])
    assert all(0 < score < 1 for score in scores)


def test_a_real_user_is_scored_from_real_behaviours_with_nothing_missing(scorer, body):
    answer = scorer.post("/score", json=body).json()
    assert (answer["degraded"], answer["unknown_items"]) == ([], 0)
    assert answer["behaviours"] > 0


def test_twin_is_the_default_of_several(scorer, body):
    assert scorer.post("/score", json=body).json()["model"] == "twin"


@pytest.mark.parametrize("model", MODELS)
def test_each_model_answers_to_its_name_and_to_its_version(scorer, world, body, model):
    (version,) = [folder.name for folder in (world.bundles / model).iterdir()]
    named = scorer.post("/score", json=body | {"model": model}).json()
    versioned = scorer.post("/score", json=body | {"model": f"{model}:{version}"}).json()
    assert (named["model"], named["version"]) == (model, version)
    assert named["scores"] == versioned["scores"]


def test_the_models_do_not_score_alike(scorer, body):
    assert len({tuple(scorer.post("/score", json=body | {"model": model}).json()["scores"]) for model in MODELS}) == len(MODELS)


def test_the_same_request_is_scored_the_same_way_again(scorer, body):
    one, other = (scorer.post("/score", json=body).json()["scores"] for _ in range(2))
    assert one == other


def test_an_id_and_its_text_are_one(scorer, body):
    numbers = body | {"user_id": int(body["user_id"]), "item_ids": [int(item) for item in body["item_ids"]]}
    assert scorer.post("/score", json=numbers).json()["scores"] == scorer.post("/score", json=body).json()["scores"]


def test_a_thousand_candidates_are_scored(scorer, world, body):
    answer = scorer.post("/score", json=body | {"item_ids": world.dataset.registry.ids[:1000]}).json()
    assert len(answer["scores"]) == 1000
    assert np.isfinite(answer["scores"]).all()


def test_callers_at_the_same_time_do_not_disturb_each_other(scorer, world, body):
    bodies = [body | {"model": model, "user_id": user} for model in MODELS for user in [body["user_id"], "1", "2", "nobody"]]
    alone = [scorer.post("/score", json=one).json()["scores"] for one in bodies]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda one: scorer.post("/score", json=one).json()["scores"], bodies * 3))
    assert together == alone * 3


# users and items that are not known


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_user_has_no_behaviours_and_nothing_is_missing(scorer, body, model):
    answer = scorer.post("/score", json=body | {"user_id": "nobody", "model": model}).json()
    assert (answer["behaviours"], answer["degraded"]) == (0, [])
    assert all(0 < score < 1 for score in answer["scores"])


@pytest.mark.parametrize("model", MODELS)
def test_a_user_before_any_behaviour_is_an_unknown_user(scorer, body, model):
    before = body | {"at": 1, "model": model}
    answer = scorer.post("/score", json=before).json()
    assert (answer["behaviours"], answer["degraded"]) == (0, [])
    assert answer["scores"] == scorer.post("/score", json=before | {"user_id": "nobody"}).json()["scores"]


@pytest.mark.parametrize("model", MODELS)
def test_unknown_items_are_scored_and_counted(scorer, body, model):
    mixed = body | {"item_ids": [body["item_ids"][0], "new", "newer", "new"], "model": model}
    answer = scorer.post("/score", json=mixed).json()
    assert (answer["unknown_items"], answer["degraded"]) == (3, [])
    assert answer["scores"][1] == answer["scores"][2] == answer["scores"][3]
    assert 0 < answer["scores"][1] < 1


def test_a_user_whose_id_has_braces_and_signs_is_a_user(tiny_client):
    answer = tiny_client.post("/score", json=asked(user_id="{%7B} 🛒\n")).json()
    assert (answer["behaviours"], answer["degraded"]) == (0, [])


# time


@pytest.mark.parametrize("model", ["eta", "twin"])
def test_with_at_only_the_behaviours_before_it_are_searched(scorer, real, model):
    body, history = real
    middle = int(history.ts[len(history) // 2])
    answer = scorer.post("/score", json=body | {"at": middle, "model": model}).json()
    assert answer["behaviours"] == int((history.ts < middle).sum())


def test_without_at_the_whole_life_is_searched(scorer, world, body):
    user = world.dataset.user_ids.index(body["user_id"])
    timeless = {name: value for name, value in body.items() if name != "at"}
    assert scorer.post("/score", json=timeless).json()["behaviours"] == len(world.dataset.history(user, 2**32))


def test_behaviours_are_those_that_the_search_ran_over_or_the_state_holds(scorer, world, real):
    body, history = real
    category = world.dataset.registry.candidates(body["item_ids"]).category
    found = {model: scorer.post("/score", json=body | {"model": model}).json()["behaviours"] for model in MODELS}
    short = {"mean_pool": 50, "din": 50, "dien": 50, "bst": 50, "mind": 50, "dmin": 20, "dsin": 100}
    expected = dict.fromkeys(MODELS, len(history)) | short | {"sim_hard": int(np.isin(history.category, category).sum())}
    assert found == expected


def test_the_hour_of_at_can_be_overridden(scorer, body):
    scores = [scorer.post("/score", json=body | {"context": {"hour": hour}}).json()["scores"] for hour in (3, 18)]
    assert scores[0] != scores[1]


# explanations


@pytest.mark.parametrize("model", [model for model in MODELS if not model_type(model).explains])
def test_a_model_without_a_weight_per_behaviour_says_null(scorer, body, model):
    answer = scorer.post("/score", json=body | {"model": model, "explain": 4}).json()
    assert answer["explanations"] is None


@pytest.mark.parametrize("model", [model for model in MODELS if model_type(model).explains])
def test_each_candidate_is_explained_by_its_heaviest_behaviours(scorer, world, real, model):
    body, history = real
    answer = scorer.post("/score", json=body | {"model": model, "explain": 4}).json()
    assert list(answer) == [*FIELDS, "explanations"]
    assert len(answer["explanations"]) == len(body["item_ids"])
    ids, lived = world.dataset.registry.ids, set(zip(history.row.tolist(), history.ts.tolist(), strict=True))
    for explanation in answer["explanations"]:
        assert len(explanation) <= 4
        weights = [behaviour["weight"] for behaviour in explanation]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) <= 1 + 1e-5
        for behaviour in explanation:
            assert list(behaviour) == ["item_id", "ts", "category", "weight"]
            assert (ids.index(behaviour["item_id"]) + 2, behaviour["ts"]) in lived


def test_weights_of_all_retrieved_behaviours_sum_to_one(scorer, world, body):
    dataset = world.dataset
    user, early = next(  # so few behaviours that all can be asked for
        (user, at)
        for user in range(len(dataset.user_ids))
        for at in np.unique(dataset.history(user, 10**10).ts)[1:6].tolist()
        if len(dataset.history(user, at)) <= 20
    )
    history = dataset.history(user, early)
    answer = scorer.post("/score", json=body | {"user_id": dataset.user_ids[user], "at": early, "explain": 20}).json()
    for explanation in answer["explanations"]:
        assert len(explanation) == int((history.ts < early).sum())
        assert sum(behaviour["weight"] for behaviour in explanation) == pytest.approx(1, abs=1e-5)


def test_a_behaviour_of_sim_hard_is_of_the_candidate_s_category(scorer, world, body):
    registry = world.dataset.registry
    answer = scorer.post("/score", json=body | {"model": "sim_hard", "explain": 20}).json()
    for item, explanation in zip(body["item_ids"], answer["explanations"], strict=True):
        own = registry.category_names[registry.candidates([item]).category[0] - 2]
        assert {behaviour["category"] for behaviour in explanation} <= {own}


def test_explaining_does_not_change_the_scores(scorer, body):
    one, other = (scorer.post("/score", json=body | {"explain": n}).json()["scores"] for n in (0, 20))
    assert one == other


def test_explain_0_explains_nothing(scorer, body):
    assert "explanations" not in scorer.post("/score", json=body | {"explain": 0}).json()


def test_a_user_without_behaviours_has_an_empty_explanation_per_candidate(scorer, body):
    answer = scorer.post("/score", json=body | {"user_id": "nobody", "explain": 3}).json()
    assert answer["explanations"] == [[]] * len(body["item_ids"])


# headers


def test_server_timing_has_the_six_stages_and_their_sum(scorer, body):
    header = scorer.post("/score", json=body).headers["server-timing"]
    parts = re.findall(r"(\w+);dur=(\d+\.\d+)", header)
    assert [name for name, _ in parts] == [*STAGES, "total"]
    *stages, total = (float(value) for _, value in parts)
    assert sum(stages) == pytest.approx(total, abs=0.004)  # seven numbers rounded to microseconds
    assert all(stage > 0 for stage in stages)


def test_the_request_id_of_the_header_comes_back(scorer, body):
    response = scorer.post("/score", json=body, headers={"x-request-id": "from-the-header"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "from-the-header"


def test_the_request_id_of_the_body_wins(scorer, body):
    response = scorer.post("/score", json=body | {"request_id": "r1"}, headers={"x-request-id": "from-the-header"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "r1"


def test_a_request_without_an_id_is_given_one_of_its_own(scorer, body):
    one, other = (scorer.post("/score", json=body).json()["request_id"] for _ in range(2))
    assert one
    assert one != other


@pytest.mark.parametrize("given", ["x" * 129, "two words", "caf\xe9"])
def test_a_header_that_is_no_request_id_is_replaced(tiny_client, given):
    response = tiny_client.post("/score", json=asked(), headers={"x-request-id": given.encode("latin-1")})
    assert response.headers["x-request-id"] == response.json()["request_id"] != given


@pytest.mark.parametrize("content", [b"{", b'{"user_id": "u1"}', b'{"user_id": "u1", "item_ids": ["i1"], "model": "none"}'])
def test_an_error_carries_the_request_id_of_the_header(tiny_client, content):
    response = tiny_client.post("/score", content=content, headers=JSON | {"x-request-id": "r7"})
    assert response.status_code >= 400
    assert response.headers["x-request-id"] == "r7"


def test_an_error_after_reading_carries_the_request_id_of_the_body(tiny_client):
    assert tiny_client.post("/score", json=asked(model="none", request_id="r8")).headers["x-request-id"] == "r8"


# 400, 404, 413, 415, 422


@pytest.mark.parametrize(
    "content", [b"", b"{", b"user_id=1", b'{"at": NaN}', b'{"at": Infinity}'], ids=["empty", "cut", "form", "NaN", "Infinity"]
)
def test_malformed_json_is_400(scorer, content):
    assert is_problem(scorer.post("/score", content=content, headers=JSON), 400)["title"] == "malformed JSON"


@pytest.mark.parametrize(
    ("changes", "field", "numbers"),
    [
        ({"item_ids": []}, "item_ids", "item_ids: 0, limit 1"),
        ({"item_ids": ["1"] * 1001}, "item_ids", "item_ids: 1001, limit 1000"),
        ({"item_ids": "1"}, "item_ids", "list"),
        ({"item_ids": ["1", None]}, "item_ids", "item_ids[1]"),
        ({"user_id": True}, "user_id", "boolean"),
        ({"user_id": 1.5}, "user_id", "fraction"),
        ({"user_id": ""}, "user_id", "0 bytes"),
        ({"at": 1_700_000_000_000}, "at", "at: 1700000000000, limit 4102444800"),
        ({"at": -1}, "at", "at: -1, limit 0"),
        ({"at": "now"}, "at", "integer"),
        ({"timeout_ms": 0}, "timeout_ms", "timeout_ms: 0, limit 0"),
        ({"explain": 21}, "explain", "explain: 21, limit 20"),
        ({"context": {"device": "phone"}}, "context.device", "hour, weekday"),
        ({"context": {"hour": [1]}}, "context.hour", "one value"),
        ({"request_id": ""}, "request_id", "request_id"),
        ({"modle": "din"}, "modle", "modle"),
    ],
)
def test_an_invalid_request_is_422_with_the_field_and_the_numbers(scorer, body, changes, field, numbers):
    content = is_problem(scorer.post("/score", json=body | changes), 422, field)
    assert content["title"] == "invalid request"
    assert numbers in content["detail"]


@pytest.mark.parametrize("field", ["user_id", "item_ids"])
def test_a_request_without_a_needed_field_is_422(scorer, body, field):
    is_problem(scorer.post("/score", json={name: value for name, value in body.items() if name != field}), 422, field)


def test_json_that_is_no_object_is_422(scorer):
    is_problem(scorer.post("/score", json=[1]), 422, "body")


@pytest.mark.parametrize("model", ["dine", "twin:20200101T000000Z", "../din"])
def test_an_unknown_model_is_404_and_lists_the_known_ones(scorer, body, model):
    content = is_problem(scorer.post("/score", json=body | {"model": model}), 404, "model")
    assert all(f"{known}:" in content["detail"] for known in MODELS)


@pytest.mark.parametrize("path", ["/", "/scores", "/v1/score"])
def test_an_unknown_path_is_404(scorer, path):
    is_problem(scorer.post(path, json={}), 404)


def test_another_method_is_405_and_names_the_right_one(scorer):
    response = scorer.get("/score")
    is_problem(response, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/json", "application/jsonp", ""])
def test_a_body_that_is_not_declared_json_is_415(scorer, body, kind):
    is_problem(scorer.post("/score", content=json.dumps(body), headers={"content-type": kind}), 415, "content-type")


def test_a_body_without_a_content_type_is_415(scorer, body):
    is_problem(scorer.post("/score", content=json.dumps(body).encode()), 415, "content-type")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_may_be_written_in_capitals_and_with_a_charset(scorer, body, kind):
    assert scorer.post("/score", content=json.dumps(body), headers={"content-type": kind}).status_code == 200


def test_a_compressed_body_is_415(scorer, body):
    is_problem(
        scorer.post("/score", content=json.dumps(body), headers=JSON | {"content-encoding": "gzip"}), 415, "content-encoding"
    )


def in_chunks(content):
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_of_more_bytes_than_allowed_is_413_and_the_next_is_answered(scorer, body, chunked):
    content = json.dumps(body).encode().ljust(1_000_001)
    response = scorer.post("/score", content=in_chunks(content) if chunked else content, headers=JSON)
    assert "limit 1000000" in is_problem(response, 413, "body")["detail"]
    assert scorer.post("/score", json=body).status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
def test_a_body_of_just_as_many_bytes_as_allowed_is_read(scorer, body, chunked):
    content = json.dumps(body).encode().ljust(1_000_000)
    assert scorer.post("/score", content=in_chunks(content) if chunked else content, headers=JSON).status_code == 200


def test_a_stated_length_is_refused_before_the_body_is_sent(scorer):
    head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000001\r\n\r\n"
    with socket.create_connection((scorer.base_url.host, scorer.base_url.port), timeout=60) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


# keys


@pytest.fixture(scope="module")
def locked(shared_tiny, store_url):
    with served(shared_tiny.bundles, store_url, model="din", api_key="the-key") as (client, _):
        yield client


@pytest.mark.parametrize(
    "given", [None, "Bearer", "Bearer the-ke", "Bearer the-key2", "Basic the-key", "the-key", "Bearer THE-KEY"]
)
def test_no_key_or_a_wrong_one_is_401(locked, given):
    response = locked.post("/score", json=asked(), headers={"authorization": given} if given is not None else {})
    content = is_problem(response, 401, "authorization")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "the-key" not in content["detail"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_right_key_is_let_in(locked, scheme):
    assert locked.post("/score", json=asked(), headers={"authorization": f"{scheme} the-key"}).status_code == 200


def test_who_has_no_key_learns_nothing_of_the_body(locked):
    assert locked.post("/score", content=b"{").status_code == 401


def test_server_metadata_need_the_key(locked):
    assert locked.get("/v2").status_code == 401
    assert locked.get("/v2", headers={"authorization": "Bearer the-key"}).status_code == 200


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics", "/docs", "/openapi.json"])
def test_health_metrics_and_documentation_are_public(locked, path):
    assert locked.get(path).status_code == 200


# overload and faults of our own


def test_one_request_more_than_there_are_slots_is_429_at_once(shared_tiny, store_url, monkeypatch):
    free = threading.Event()
    score = service.calls.score
    monkeypatch.setattr(service.calls, "score", lambda *args: free.wait(60) and score(*args))
    with served(shared_tiny.bundles, store_url, model="din", max_in_flight=3, request_threads=1) as (client, app):
        with ThreadPoolExecutor(3) as threads:
            taken = [threads.submit(client.post, "/score", json=asked()) for _ in range(3)]
            until(lambda: app.state.service.score_slots.taken == 3)
            refused = [client.post("/score", json=asked()) for _ in range(5)]
            free.set()
            assert [future.result().status_code for future in taken] == [200] * 3
        for response in refused:
            assert "in flight: 3, limit 3" in is_problem(response, 429)["detail"]
            assert int(response.headers["retry-after"]) > 0
        assert 'ctr_rejected_total{reason="no_free_slot"} 5.0' in client.get("/metrics").text
        assert client.post("/score", json=asked()).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"{"}, 400),
        ({"json": {}}, 422),
        ({"json": asked(model="none")}, 404),
        ({"json": asked(timeout_ms=1e-6)}, 504),
    ],
)
def test_a_refused_request_gives_its_slot_back(shared_tiny, store_url, request_, status):
    with served(shared_tiny.bundles, store_url, model="din", max_in_flight=1) as (client, app):
        for _ in range(3):
            assert client.post("/score", headers=JSON, **request_).status_code == status
        assert app.state.service.score_slots.taken == 0


def test_a_body_that_never_comes_gives_its_slot_back_at_the_deadline(shared_tiny, store_url):
    with (
        served(shared_tiny.bundles, store_url, model="din", max_in_flight=1, timeout_ms=200) as (client, app),
        socket.create_connection((client.base_url.host, client.base_url.port)) as caller,
    ):
        caller.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        until(lambda: app.state.service.score_slots.taken == 1)
        until(lambda: app.state.service.score_slots.taken == 0, limit_s=3)


def test_a_bug_is_a_500_that_tells_the_caller_nothing(shared_tiny, store_url, monkeypatch, caplog):
    def broken(*args):
        raise RuntimeError("an inner secret")

    monkeypatch.setattr(service.calls, "score", broken)
    with served(shared_tiny.bundles, store_url, model="din") as (client, app):
        response = client.post("/score", json=asked(), headers={"x-request-id": "r9"})
        content = is_problem(response, 500)
        assert "secret" not in response.text
        assert "Traceback" not in response.text
        assert content["title"] == "internal error"
        assert response.headers["x-request-id"] == "r9"
        assert app.state.service.score_slots.taken == 0
    assert "an inner secret" in caplog.text


def test_a_record_with_a_bucket_beyond_the_schema_is_no_500(scorer, world, body, data_name):
    client = connect(world.store_url)
    candidates = world.dataset.registry.candidates(body["item_ids"])
    count = len(candidates.row)
    cross = np.full((count, 3), 254, np.uint8)
    behaviours = Behaviours(candidates.row, candidates.category, np.arange(count, dtype=np.int64), cross)
    BehaviourTree(client, world.dataset.schema.data, 3).write(data_name, behaviours)
    client.close()
    assert scorer.post("/score", json=body | {"user_id": data_name, "model": "twin"}).status_code == 200


# the other routes


def test_server_metadata_name_the_server(scorer):
    content = scorer.get("/v2").json()
    assert (content["name"], type(content["version"]), type(content["extensions"])) == ("longtrail", str, list)


def test_health_says_live_and_ready_with_the_models(scorer):
    assert scorer.get("/v2/health/live").json() == {"live": True}
    assert scorer.get("/v2/health/ready").json() == {"ready": True, "models": MODELS}


def test_metrics_are_in_the_format_of_prometheus(scorer, body):
    scorer.post("/score", json=body)
    response = scorer.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'ctr_requests_total{code="200",model="twin",route="/score",version="' in response.text


@pytest.mark.parametrize("path", ["/v2", "/v2/nothing"])
def test_an_error_on_v2_is_as_its_protocol_has_it(locked, path):
    assert list(locked.get(path).json()) == ["error"]


@pytest.fixture(scope="module")
def api(tiny_client_module):
    return tiny_client_module.get("/openapi.json").json()


@pytest.fixture(scope="module")
def tiny_client_module(tiny_app):
    return tiny_app[0]


def test_the_api_description_is_valid_and_lists_the_routes(api):
    OpenAPI.model_validate(api)
    assert api["openapi"].startswith("3.1")
    listed = {(method, path) for path, methods in api["paths"].items() for method in methods}
    assert listed >= {
        ("post", "/score"), ("get", "/v2"), ("get", "/v2/health/live"), ("get", "/v2/health/ready"), ("get", "/metrics"),
    }  # fmt: skip


def test_the_api_description_lists_every_status_of_score(api):
    responses = api["paths"]["/score"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "404", "413", "415", "422", "429", "503", "504"}
    assert all("application/problem+json" in responses[status]["content"] for status in responses if status != "200")


def test_the_api_description_has_every_field_of_a_request(api):
    schema = api["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {
        "user_id", "item_ids", "model", "timeout_ms", "at", "context", "explain", "request_id",
    }  # fmt: skip
    assert set(schema["required"]) == {"user_id", "item_ids"}
    assert schema["additionalProperties"] is False


def test_the_api_description_says_that_one_candidate_is_needed(api):
    schema = api["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["item_ids"]["minItems"] == 1


def test_the_example_of_the_api_description_is_answered(scorer, api):
    schema = api["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for example in schema["examples"]:
        answer = scorer.post("/score", json=example)
        assert answer.status_code == 200
        assert answer.json()["unknown_items"] == 0


def test_the_example_answer_has_the_fields_of_the_contract(api):
    example = api["paths"]["/score"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert list(example) == FIELDS


def test_the_documentation_page_loads_nothing_from_other_hosts(tiny_client):
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]+"', tiny_client.get("/docs").text) == []


def test_the_parts_of_the_documentation_page_are_there(tiny_client):
    parts = re.findall(r'(?:src|href)="([^"]+)"', tiny_client.get("/docs").text)
    assert len(parts) >= 2
    assert {part: tiny_client.get(f"/{part}").status_code for part in parts} == dict.fromkeys(parts, 200)
