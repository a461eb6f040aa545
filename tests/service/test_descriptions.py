"""The API's description: every call says what it takes, what it answers and what can go wrong, by examples that are true."""

import pytest
from fastapi.openapi.models import OpenAPI

from service import errors
from service.descriptions import PUBLIC, problems
from tests.service.serving import served
from tests.service.tiny import USER, VERSION, Tiny

NEWER = "20270131T120000Z"
ADMIN = {"authorization": "Bearer admin"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, store_url):
    tiny = Tiny.at(tmp_path_factory.mktemp("described"), "described")
    for version in (VERSION, NEWER):
        tiny.add("din", version)
    tiny.fill(store_url)
    with served(tiny.bundles, store_url, model="din", admin_api_key="admin") as (client, _):
        yield client


@pytest.fixture(scope="module")
def api(running):
    return running.get("/openapi.json").json()


def operations(api):
    return [(method, path, one) for path, methods in api["paths"].items() for method, one in methods.items()]


def example_of(api, method, path, status="200"):
    return api["paths"][path][method]["responses"][status]["content"]["application/json"]["example"]


def test_it_is_valid(api):
    OpenAPI.model_validate(api)


def test_every_call_has_a_summary_and_every_json_answer_an_example(api):
    for method, path, one in operations(api):
        if path.startswith("/ui"):
            continue  # the page's own
        assert one["summary"], (method, path)
        for status, answer in one["responses"].items():
            for kind, content in answer.get("content", {}).items():
                assert "json" not in kind or "example" in content, (method, path, status)


def test_every_body_has_a_schema_and_those_of_scoring_an_example(api):
    for method, path, one in operations(api):
        if method in ("post", "put"):
            schema = one["requestBody"]["content"]["application/json"]["schema"]
            assert schema["type"] == "object", path
            assert "examples" in schema or "repository" in path, path


def test_calls_carry_a_key_unless_they_are_public(api):
    assert {path for _, path, one in operations(api) if "security" not in one} == set(PUBLIC)
    assert "key" in api["components"]["securitySchemes"]


def test_errors_have_the_titles_of_the_scorers_own():
    ours = {(kind.status, kind.title) for kind in errors.ScorerError.__subclasses__()}
    listed = problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)
    assert {(status, one["content"]["application/problem+json"]["example"]["title"]) for status, one in listed.items()} <= ours


@pytest.mark.parametrize("path", ["/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"])
def test_the_example_of_infer_is_answered_like_its_example(running, api, path):
    schema = api["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (example,) = schema["examples"]
    answer = running.post(path.format(model="din", version=NEWER), json=example | {"parameters": {}})
    assert answer.status_code == 200
    shown = example_of(api, "post", path)
    assert list(answer.json()) == list(shown)
    assert list(answer.json()["parameters"]) == list(shown["parameters"])
    assert list(answer.json()["outputs"][0]) == list(shown["outputs"][0])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "/v2", None),
        ("get", "/v2/health/live", None),
        ("get", "/v2/health/ready", None),
        ("get", "/v2/models/{model}", None),
        ("get", "/v2/models/{model}/ready", None),
        ("get", "/users/{user_id}/behaviours", None),
        ("post", "/v2/repository/index", {}),
        ("post", "/v2/repository/models/{model}/load", {}),
        ("get", "/admin/models/{model}/labels", None),
        ("put", "/admin/models/{model}/labels", {"stable": VERSION, "canary": {"version": NEWER, "percent": 5}, "shadow": NEWER}),
    ],
)
def test_an_answer_has_the_fields_of_its_example(running, api, method, path, body):
    answer = running.request(method.upper(), path.format(model="din", user_id=USER), json=body, headers=ADMIN)
    assert answer.status_code == 200
    found, shown = answer.json(), example_of(api, method, path)
    assert type(found) is type(shown)
    found, shown = (found[0], shown[0]) if isinstance(shown, list) else (found, shown)
    assert list(found) == list(shown)
