"""Models in motion by calls, over HTTP."""

import re
import threading

import numpy as np
import onnx
import pytest
import tritonclient.http as triton

from store.bundle import GOLDEN, GRAPH
from tests.service.serving import served, until
from tests.service.tiny import VERSION, sign_again

NEWER, NEWEST = "20270131T120000Z", "20280131T120000Z"
ADMIN = {"authorization": "Bearer admin"}
SCORE = {"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"}


@pytest.fixture
def running(tiny):
    tiny.add("din")
    with served(tiny.bundles, api_key="key", admin_api_key="admin") as (client, _):
        client.headers["authorization"] = "Bearer key"
        yield client, tiny


def test_a_new_version_serves_after_one_call_and_an_old_one_after_another(running):
    client, tiny = running
    tiny.add("din", NEWER)
    for body, version in (({}, NEWER), ({"parameters": {"version": VERSION}}, VERSION)):
        answer = client.post("/v2/repository/models/din/load", json=body, headers=ADMIN)
        assert (answer.status_code, answer.json()) == (200, {"name": "din", "version": version})
        assert client.post("/score", json=SCORE).json()["version"] == version


def test_tritonclient_loads_and_unloads(running):
    client, tiny = running
    tiny.add("eta")
    with triton.InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as other:
        other.load_model("eta", headers=ADMIN)
        assert {one["name"]: one["state"] for one in other.get_model_repository_index(headers=ADMIN)} == {
            "din": "READY", "eta": "READY",
        }  # fmt: skip
        other.unload_model("din", headers=ADMIN)
    assert client.post("/score", json=SCORE).status_code == 404
    states = client.post("/v2/repository/index", headers=ADMIN).json()
    assert [(one["name"], one["state"]) for one in states] == [("din", "UNAVAILABLE"), ("eta", "READY")]
    ready = client.post("/v2/repository/index", json={"ready": True}, headers=ADMIN).json()
    assert [one["name"] for one in ready] == ["eta"]


def test_labels_are_put_and_got(running):
    client, tiny = running
    tiny.add("din", NEWER)
    labels = {"stable": VERSION, "canary": {"version": NEWER, "percent": 100.0}, "shadow": None}
    assert client.put("/admin/models/din/labels", json=labels, headers=ADMIN).json() == labels
    assert client.get("/admin/models/din/labels", headers=ADMIN).json() == labels
    assert client.post("/score", json=SCORE).json()["version"] == NEWER
    assert client.post("/score", json=SCORE | {"model": "din:stable"}).json()["version"] == VERSION


def lifted(scores, by):
    """Scores whose logits are `by` higher."""
    return 1 / (1 + np.exp(-by) * (1 / scores - 1))


def lift(folder, by):
    """Make a bundle another one: its logits are `by` higher."""
    model = onnx.load(folder / GRAPH)
    last = next(node for node in model.graph.node if "logit" in node.output)
    last.output[0] = "lower"
    model.graph.initializer.append(onnx.helper.make_tensor("by", onnx.TensorProto.FLOAT, [1], [by]))
    model.graph.node.append(onnx.helper.make_node("Add", ["lower", "by"], ["logit"]))
    onnx.save(model, folder / GRAPH)
    with np.load(folder / GOLDEN) as arrays:
        golden = dict(arrays)
    np.savez(folder / GOLDEN, **golden | {"scores": lifted(golden["scores"], by).astype(np.float32)})
    sign_again(folder)


def test_a_shadow_is_scored_and_never_answers(running):
    client, tiny = running
    lift(tiny.add("din", NEWER), 0.5)
    labels = {"stable": VERSION, "shadow": NEWER}
    assert client.put("/admin/models/din/labels", json=labels, headers=ADMIN).status_code == 200
    answer = client.post("/score", json=SCORE).json()
    assert answer["version"] == VERSION
    until(lambda: 'ctr_shadow_total{model="din",result="compared"} 1.0' in client.get("/metrics").text)
    said = re.search(r'^ctr_shadow_score_difference_sum{model="din"} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    scores = np.array(answer["scores"])
    assert float(said[1]) == pytest.approx(float((lifted(scores, 0.5) - scores).mean()), abs=1e-6)
    assert client.post("/score", json=SCORE | {"model": "din:shadow"}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v2/repository/models/nobody/load", {}, 404, "nobody"),
        ("POST", "/v2/repository/models/din/load", {"parameters": {"version": NEWER}}, 404, NEWER),
        ("POST", "/v2/repository/models/din/load", {"parameters": {"vresion": NEWER}}, 422, "vresion"),
        ("POST", "/v2/repository/models/din/load", {"parameters": {"version": 7}}, 422, "version"),
        ("POST", "/v2/repository/models/nobody/unload", {}, 404, "nobody"),
        ("PUT", "/admin/models/din/labels", {"stable": "../../x"}, 422, "stable"),
        ("PUT", "/admin/models/din/labels", {"stable": NEWER}, 404, NEWER),
        ("PUT", "/admin/models/nobody/labels", {"stable": NEWER}, 404, "nobody"),
        ("GET", "/admin/models/nobody/labels", None, 404, "nobody"),
        ("PUT", "/admin/models/din/labels", [], 422, "object"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_changes(running, method, path, body, status, said):
    client, _ = running
    answer = client.request(method, path, json=body, headers=ADMIN)
    assert answer.status_code == status
    assert said in answer.text
    assert client.post("/score", json=SCORE).json()["version"] == VERSION


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/din/load"),
        ("POST", "/v2/repository/models/din/unload"),
        ("GET", "/admin/models/din/labels"),
        ("PUT", "/admin/models/din/labels"),
    ],
)
def test_only_the_admin_key_changes_what_is_served(running, tiny, method, path):
    client, _ = running
    assert client.request(method, path).status_code == 403
    assert client.request(method, path, headers={"authorization": "Bearer other"}).status_code == 401
    with served(tiny.bundles) as (without, _):
        assert without.request(method, path, headers=ADMIN).status_code == 404


def test_swaps_under_load_fail_no_request(running):
    client, tiny = running
    versions = (VERSION, NEWER, NEWEST)  # in turn: each is loaded anew
    for version in versions[1:]:
        tiny.add("din", version)
    ended, seen, bad = threading.Event(), set(), []

    def ask():
        while not ended.is_set():
            answer = client.post("/score", json=SCORE)
            if answer.status_code != 200:
                bad.append(answer.text)
            else:
                seen.add(answer.json()["version"])

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for i in range(20):
            body = {"parameters": {"version": versions[i % 3]}}
            assert client.post("/v2/repository/models/din/load", json=body, headers=ADMIN).status_code == 200
    finally:
        ended.set()
        for thread in asking:
            thread.join()
    assert not bad
    assert seen == set(versions)
