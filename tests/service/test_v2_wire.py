"""Open Inference Protocol, bytes in and out: what is read, what is refused."""

import json
import struct

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidJson, InvalidRequest, UnknownModel
from service.scores import ScoreResponse
from service.v2 import HEADER_LENGTH, answer, named, parse

IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9)


def body(user="u", items=("a", "b"), **more):
    shape = more.pop("shape", [len(items)])
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": [user]},
        {"name": "item_ids", "shape": shape, "datatype": "BYTES", "data": list(items)},
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


def texts(values):
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def binary(users, items, datatypes=("BYTES", "BYTES"), shapes=None, sizes=None, **more):
    """Head, all of it, and what follows the head."""
    raws = [
        texts(values) if of == "BYTES" else np.array(values, "<i8").tobytes()
        for values, of in zip((users, items), datatypes, strict=True)
    ]
    shapes, sizes = shapes or [[len(users)], [len(items)]], sizes or [len(raw) for raw in raws]
    inputs = [
        {"name": name, "shape": shape, "datatype": of, "parameters": {"binary_data_size": size}}
        for name, shape, of, size in zip(("user_id", "item_ids"), shapes, datatypes, sizes, strict=True)
    ]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return str(len(head)), head + b"".join(raws)


def response(scores=(0.25, 0.5), **more):
    fields = {"degraded": [], "unknown_items": 0, "behaviours": 9} | more
    return ScoreResponse("twin", "20260131T120000Z", np.array(scores, np.float32), **fields)


def test_tensors_in_json_are_a_request():
    read = parse(body("u1", ["x", "y"], id="r7", parameters={"at": 5, "timeout_ms": 30, "context_hour": 3}), None, "twin", 10)
    request = read.request
    assert (request.user_id, request.item_ids, request.model, request.request_id) == ("u1", ["x", "y"], "twin", "r7")
    assert (request.at, request.timeout_ms, request.context) == (5, 30, {"hour": 3})
    assert (read.shape, read.binary) == ([2], False)


@given(IDS, st.lists(IDS, min_size=1, max_size=20))
def test_texts_in_bytes_are_those_in_json(user, items):
    head, whole = binary([user], items)
    assert parse(whole, head, "m", 100).request == parse(body(user, items), None, "m", 100).request


@given(st.integers(-(2**63), 2**63 - 1), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_numbers_are_ids_in_both_forms(user, items):
    head, whole = binary([user], items, ("INT64", "INT64"))
    request = parse(whole, head, "m", 100).request
    assert (request.user_id, request.item_ids) == (str(user), [str(item) for item in items])


def test_one_form_may_stand_beside_the_other():
    head, whole = binary(["u"], [4, 5], ("BYTES", "INT64"))
    assert parse(whole, head, "m", 100).request.item_ids == ["4", "5"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_batch_of_one_gives_an_answer_of_that_shape(nested):
    read = json.loads(body("u", ["a", "b"], shape=[1, 2]))
    if nested:
        read["inputs"][1]["data"] = [["a", "b"]]
    infer = parse(json.dumps(read).encode(), None, "m", 9)
    assert json.loads(answer(infer, response(), "r")[0])["outputs"][0]["shape"] == [1, 2]


def test_an_answer_says_what_that_of_score_says():
    infer = parse(body(), None, "twin", 9)
    content, headers = answer(infer, response(degraded=["bad_record", "store_timeout"], unknown_items=1), "r9")
    assert json.loads(content) == {
        "model_name": "twin", "model_version": "20260131T120000Z", "id": "r9",
        "parameters": {"degraded": "bad_record,store_timeout", "behaviours": 9, "unknown_items": 1},
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2], "data": [0.25, 0.5]}],
    }  # fmt: skip
    assert headers == {"content-type": "application/json"}


@pytest.mark.parametrize(
    "asked",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
        {"parameters": {"binary_data_output": False}, "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
    ],
)
def test_scores_in_bytes_stand_behind_the_head(asked):
    content, headers = answer(parse(body(**asked), None, "m", 9), response(), "r")
    head = int(headers[HEADER_LENGTH])
    (output,) = orjson.loads(content[:head])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(content[head:], "<f4").tolist() == [0.25, 0.5]


def test_an_output_that_is_asked_for_in_json_is_in_json():
    asked = {"parameters": {"binary_data_output": True}, "outputs": [{"name": "scores", "parameters": {"binary_data": False}}]}
    assert not parse(body(**asked), None, "m", 9).binary


def test_tritons_time_limit_is_in_microseconds():
    assert parse(body(parameters={"timeout": 12_500}), None, "m", 9).request.timeout_ms == 12.5
    assert parse(body(parameters={"timeout": 0, "priority": 3, "sequence_id": 0}), None, "m", 9).request.timeout_ms is None


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"{}", "inputs: a list"),
        (b'{"inputs": 3}', "inputs: a list"),
        (b'{"inputs": []}', "needed are user_id and item_ids"),
        (body(items=[]), "item_ids"),
        (body(items=["a"] * 4), "item_ids: 4, limit 3"),
        (body(shape=[3]), r"item_ids: 2 values, shape \[3\] has 3"),
        (body(shape=[2, 1]), r"item_ids: shape \[2, 1\]"),
        (body(shape=[-1]), "item_ids: shape"),
        (body(shape=[2**63]), "limit 3"),
        (body(shape=[True]), "item_ids: shape"),
        (body(items=["a", 7]), r"item_ids\[1\]: '7' is not BYTES"),
        (body(user=""), "user_id"),
        (body(user="a\0"), "NUL"),
        (body(parameters={"att": 5}), "parameters.att: unknown"),
        (body(parameters={"at": -5}), "at: -5"),
        (body(parameters=[1]), "parameters: an object"),
        (body(outputs=[{"name": "logits"}]), "logits is none, there is scores"),
        (body(outputs=[7]), "outputs: a list"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(sent, said):
    with pytest.raises(InvalidRequest, match=said):
        parse(sent, None, "m", 3)


def test_no_json_is_no_json():
    with pytest.raises(InvalidJson):
        parse(b"{", None, "m", 3)


@pytest.mark.parametrize("length", ["", "-1", "x", "9999", "1e3", "٣", "1" * 40])
def test_a_head_that_is_longer_than_the_body_or_no_number_is_refused(length):
    with pytest.raises(InvalidRequest, match=HEADER_LENGTH):
        parse(body(), length, "m", 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sizes": [5, 4]}, "item_ids"),  # the second text is cut off, and bytes are left
        ({"sizes": [5, 500]}, "binary_data_size 500, 10 bytes are left"),
        ({"sizes": [-1, 10]}, "binary_data_size -1"),
        ({"sizes": [True, 10]}, "binary_data_size True"),
        ({"shapes": [[1], [3]]}, r"2 values in 10 bytes, shape \[3\] has 3"),
        ({"shapes": [[1], [1]]}, r"1 values in 10 bytes"),
        ({"datatypes": ("BYTES", "FP32")}, "datatype FP32"),
    ],
)
def test_bytes_that_do_not_fit_their_tensor_are_refused(changes, said):
    changes = {"datatypes": ("BYTES", "BYTES")} | changes
    datatypes = changes.pop("datatypes")
    head, whole = binary(["u"], ["a", "b"], **changes)
    if datatypes[1] != "BYTES":
        old = len(whole) - int(head)
        content = json.loads(whole[: int(head)])
        content["inputs"][1]["datatype"] = datatypes[1]
        start = json.dumps(content).encode()
        head, whole = str(len(start)), start + whole[-old:]
    with pytest.raises(InvalidRequest, match=said):
        parse(whole, head, "m", 9)


@given(st.binary(max_size=60))
def test_no_bytes_are_read_beyond_their_end(noise):
    inputs = [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u"]},
        {"name": "item_ids", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(noise)}},
    ]
    head = json.dumps({"inputs": inputs}).encode()
    try:
        items = parse(head + noise, str(len(head)), "m", 9).request.item_ids
    except InvalidRequest:
        return
    assert texts(items) == noise


@pytest.mark.parametrize(("model", "version"), [("a:b", ""), ("a", "1:2"), ("", ":")])
def test_a_path_cannot_smuggle_another_version_in(model, version):
    with pytest.raises(UnknownModel):
        named(model, version)


def test_a_version_of_the_path_is_the_requests():
    assert (named("twin"), named("twin", "20260131T120000Z")) == ("twin", "twin:20260131T120000Z")
