"""The Open Inference Protocol over HTTP, by a client that knows nothing of this scorer: NVIDIA's tritonclient."""

from random import Random

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from service.labels import Canary, Labels, write_labels
from tests.service.serving import served
from tests.service.tiny import ITEMS, SEARCH_OF, USER, VERSION, Tiny

NEWER = "20270131T120000Z"
IDS = ["i1", "i5", "nothing", "i2", "i2"]
MANY = [Random(i).choice([*ITEMS, f"unbekannt ü{i}", f"漢字{i}"]) for i in range(500)]


@pytest.fixture(scope="module")
def running(tmp_path_factory, store_url):
    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"), "v2")
    for model in SEARCH_OF:
        tiny.add(model)
    tiny.fill(store_url)
    with served(tiny.bundles, store_url) as (client, _):
        yield client


def scored(running, model, ids):
    """What /score says of somebody with behaviours."""
    own = running.post("/score", json={"user_id": USER, "item_ids": ids, "model": model, "at": 1_000}).json()
    assert (own["behaviours"] > 0, own["degraded"]) == (True, [])
    return own


@pytest.fixture
def triton_client(running):
    client = triton.InferenceServerClient(f"{running.base_url.host}:{running.base_url.port}")
    yield client
    client.close()


def inputs(user="u1", ids=IDS, kind="BYTES", binary=True, batch=False):
    shape = (1, -1) if batch else (-1,)
    of = {"BYTES": np.object_, "INT64": np.int64}[kind]
    values = [np.array([user], of).reshape(shape), np.array(ids, of).reshape(shape)]
    tensors = []
    for name, value in zip(("user_id", "item_ids"), values, strict=True):
        tensor = triton.InferInput(name, list(value.shape), kind)
        tensor.set_data_from_numpy(value, binary_data=binary)
        tensors.append(tensor)
    return tensors


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_scores_are_those_of_score(running, triton_client, model, binary):
    own = scored(running, model, IDS)
    outputs = [triton.InferRequestedOutput("scores", binary_data=binary)]
    result = triton_client.infer(model, inputs(binary=binary), outputs=outputs, request_id="r7", parameters={"at": 1_000})
    np.testing.assert_array_equal(result.as_numpy("scores"), np.array(own["scores"], np.float32))
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (model, VERSION, "r7")
    assert answer["parameters"] == {
        "degraded": "", "behaviours": own["behaviours"], "unknown_items": own["unknown_items"],
    }  # fmt: skip


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_five_hundred_candidates_are_scored_as_score_does(running, triton_client, model, binary_in, binary_out):
    own = scored(running, model, MANY)
    outputs = [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    result = triton_client.infer(model, inputs(ids=MANY, binary=binary_in), outputs=outputs, parameters={"at": 1_000})
    scores = result.as_numpy("scores")
    assert (scores.dtype, scores.shape, len(set(scores.tolist()))) == (np.float32, (500,), len(ITEMS) + 1)
    np.testing.assert_array_equal(scores, np.array(own["scores"], np.float32))


def test_many_are_asked_for_at_the_same_time(running):
    with triton.InferenceServerClient(f"{running.base_url.host}:{running.base_url.port}", concurrency=4) as client:
        calls = [client.async_infer("din", inputs(), request_id=f"r{i}") for i in range(20)]
        assert [call.get_result().get_response()["id"] for call in calls] == [f"r{i}" for i in range(20)]


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_compressed_tensors_are_refused_with_the_reason(triton_client, how):
    with pytest.raises(InferenceServerException, match=f"content-encoding: {how}, none is supported") as caught:
        triton_client.infer("din", inputs(), request_compression_algorithm=how)
    assert caught.value.status() == "415"


def test_an_answer_may_be_asked_for_compressed_and_comes_plain(triton_client):
    assert triton_client.infer("din", inputs(), response_compression_algorithm="gzip").as_numpy("scores").shape == (len(IDS),)


@pytest.mark.parametrize(
    ("name", "shape", "datatype", "said"),
    [
        ("item_ids", [2], "FP32", "item_ids: datatype FP32, BYTES or INT64 is needed"),
        ("item_ids", [1, 2, 1], "BYTES", r"item_ids: shape \[1, 2, 1\]"),
        ("item_ids", [2, 1], "INT64", r"item_ids: shape \[2, 1\], \[n\] or \[1, n\] is needed"),
        ("items", [2], "BYTES", "inputs: items, user_id; needed are user_id and item_ids"),
        ("item_ids", [1_001], "INT64", "item_ids: 1001, limit 1000"),
        ("item_ids", [0], "INT64", "item_ids: 0, limit 1"),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_a_tensor_that_does_not_fit_is_refused_with_the_reason(triton_client, name, shape, datatype, said, binary):
    tensor = triton.InferInput(name, shape, datatype)
    of = {"FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}[datatype]
    tensor.set_data_from_numpy(np.full(shape, "7" if of is np.object_ else 7, of), binary_data=binary)
    with pytest.raises(InferenceServerException, match=said) as caught:
        triton_client.infer("din", [tensor, inputs()[0]])
    assert caught.value.status() == "422"


def test_numbers_and_a_batch_of_one_are_taken(triton_client):
    result = triton_client.infer("din", inputs(7, [1, 2, 3], "INT64", batch=True))
    assert result.as_numpy("scores").shape == (1, 3)


def test_without_outputs_the_scores_come_all_the_same(triton_client):
    assert triton_client.infer("din", inputs()).as_numpy("scores").shape == (len(IDS),)


def test_a_version_of_the_path_scores(triton_client):
    assert triton_client.infer("din", inputs(), model_version=VERSION).get_response()["model_version"] == VERSION
    with pytest.raises(InferenceServerException, match="known are din:"):
        triton_client.infer("din", inputs(), model_version=NEWER)


def test_what_there_is_and_whether_it_is_ready(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("eta")
    assert triton_client.is_model_ready("eta", VERSION)
    assert not triton_client.is_model_ready("nobody")
    assert triton_client.get_server_metadata()["name"] == "longtrail"
    metadata = triton_client.get_model_metadata("eta")
    assert (metadata["name"], metadata["versions"]) == ("eta", [VERSION])
    assert [(one["name"], one["datatype"], one["shape"]) for one in metadata["inputs"]] == [
        ("user_id", "BYTES", [1]), ("item_ids", "BYTES", [-1]),
    ]  # fmt: skip
    assert metadata["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1]}]
    assert metadata["parameters"] == {"calibrated": False}


def test_an_error_is_one_that_the_client_reads(triton_client):
    with pytest.raises(InferenceServerException, match="inputs: user_id; needed are user_id and item_ids"):
        triton_client.infer("din", inputs()[:1])
    with pytest.raises(InferenceServerException, match=r"context\.colour: unknown"):
        triton_client.infer("din", inputs(), parameters={"context_colour": "red"})


def test_errors_have_the_statuses_of_score(running):
    body = {"inputs": [{"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u"]}]}
    for path, content, status in (
        ("/v2/models/din/infer", body, 422),
        ("/v2/models/nobody/infer", body | {"inputs": []}, 422),
        ("/v2/models/din:canary/infer", body, 404),
        ("/v2/models/nobody", None, 404),
    ):
        answer = running.post(path, json=content) if content else running.get(path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert running.post("/v2/models/din/infer", content=b"{").status_code == 400


def test_the_time_limit_of_a_call_holds(running):
    tensors = [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u1"]},
        {"name": "item_ids", "shape": [1], "datatype": "BYTES", "data": ["i1"]},
    ]
    late = running.post("/v2/models/din/infer", json={"inputs": tensors, "parameters": {"timeout_ms": 0.0001}})
    assert late.status_code == 504
    assert "error" in late.json()


def test_metadata_lists_what_is_loaded(tiny):
    for version in (VERSION, NEWER):
        tiny.add("din", version)
    write_labels(tiny.bundles / "din", Labels(stable=NEWER, canary=Canary(version=VERSION, percent=1)))
    with served(tiny.bundles) as (client, _):
        assert client.get("/v2/models/din").json()["versions"] == [VERSION, NEWER]
        assert client.get(f"/v2/models/din/versions/{VERSION}/ready").json()["version"] == VERSION


def test_a_key_is_needed_here_too(tiny):
    tiny.add("din")
    with served(tiny.bundles, api_key="secret") as (client, _):
        for path in ("/v2", "/v2/models/din", "/v2/models/din/ready"):
            assert client.get(path).status_code == 401
        assert client.post("/v2/models/din/infer", json={}).status_code == 401
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2", headers={"authorization": "Bearer secret"}).status_code == 200
