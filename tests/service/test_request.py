import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import service.request
from service.errors import InvalidJson, InvalidRequest, ScorerError
from service.request import MAX_EXPLAIN, parse, understand
from store.types import MAX_TS, UNKNOWN
from tests.service.tiny import ITEMS

LIMIT = 1000


def parsed(**fields):
    content = {"user_id": "u1", "item_ids": ["i1"]} | fields
    return parse(json.dumps(content).encode(), LIMIT)


def refusal(**fields):
    """The refusal of a request with these fields: its field and its text."""
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    return caught.value.field, caught.value.detail


# malformed JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"user_id": "u1"',
        b"user_id=u1",
        b"{'user_id': 'u1'}",
        b'{"a": 1,}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
    ],
    ids=["empty", "open", "cut", "form", "single quotes", "comma", "byte order mark", "no UTF-8"],
)
def test_a_body_that_is_no_json_is_malformed(body):
    with pytest.raises(InvalidJson):
        parse(body, LIMIT)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"at": {}', '"context": {{"hour": {}}}', '"timeout_ms": {}', '"item_ids": [{}]'])
def test_nan_and_infinity_are_malformed_wherever_they_stand(literal, place):
    with pytest.raises(InvalidJson):
        parse(f'{{"user_id": "u1", "item_ids": ["i1"], {place.format(literal)}}}'.encode(), LIMIT)


def test_a_lone_surrogate_is_malformed():
    with pytest.raises(InvalidJson):
        parse(rb'{"user_id": "\ud800", "item_ids": ["i1"]}', LIMIT)


def test_malformed_json_is_400_and_an_invalid_request_422():
    assert (InvalidJson.status, InvalidRequest.status) == (400, 422)


# wrong types and missing fields


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"u1"', b"true"])
def test_json_that_is_no_object_is_refused(body):
    with pytest.raises(InvalidRequest) as caught:
        parse(body, LIMIT)
    assert caught.value.field == "body"


@pytest.mark.parametrize("field", ["user_id", "item_ids"])
def test_a_missing_field_is_named(field):
    content = {"user_id": "u1", "item_ids": ["i1"]}
    del content[field]
    with pytest.raises(InvalidRequest, match=f"^{field}: ") as caught:
        parse(json.dumps(content).encode(), LIMIT)
    assert caught.value.field == field


def test_a_field_that_does_not_exist_is_named():
    field, detail = refusal(modle="din")
    assert field == "modle"
    assert "modle" in detail


@pytest.mark.parametrize("value", [None, True, False, 1.5, 7.0, "", "a\0b", [], ["u1"], {}])
def test_a_user_id_that_is_no_id_is_refused(value):
    field, detail = refusal(user_id=value)
    assert field == "user_id"
    assert detail.startswith("user_id: ")


@pytest.mark.parametrize("value", [None, True, 1.5, "", "a\0b", [], {}])
def test_an_item_id_that_is_no_id_is_refused_with_its_position(value):
    field, detail = refusal(item_ids=["i1", "i2", value])
    assert field == "item_ids"
    assert detail.startswith("item_ids[2] ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("item_ids", "i1"), ("item_ids", None), ("item_ids", {"i1": 1}), ("item_ids", 7),
        ("model", 5), ("model", ["din"]), ("model", True),
        ("timeout_ms", "30"), ("timeout_ms", True), ("timeout_ms", [30]),
        ("at", "1700000000"), ("at", True), ("at", [1]),
        ("context", []), ("context", "hour"), ("context", 13), ("context", None),
        ("explain", "1"), ("explain", 1.5), ("explain", True), ("explain", None),
        ("request_id", 7), ("request_id", ["r1"]),
    ],
)  # fmt: skip
def test_a_value_of_a_wrong_type_is_refused_and_its_field_named(field, value):
    named, detail = refusal(**{field: value})
    assert named == field
    assert detail.startswith(f"{field}: ")


@pytest.mark.parametrize("value", ["", "two words", "tab\t", "é", "line\n"])
def test_a_request_id_that_cannot_stand_in_a_header_is_refused(value):
    assert refusal(request_id=value)[0] == "request_id"


# numbers out of range: both are in the text


def test_no_candidates_are_refused_with_both_numbers():
    assert refusal(item_ids=[]) == ("item_ids", "item_ids: 0, limit 1")


def test_one_candidate_too_many_is_refused_with_both_numbers():
    assert refusal(item_ids=["i1"] * 1001) == ("item_ids", "item_ids: 1001, limit 1000")


def test_the_limit_of_candidates_is_the_setting():
    with pytest.raises(InvalidRequest, match="item_ids: 3, limit 2"):
        parse(b'{"user_id": "u1", "item_ids": ["i1", "i1", "i1"]}', 2)


def test_milliseconds_in_at_are_refused_with_both_numbers():
    field, detail = refusal(at=1_700_000_000_000)
    assert field == "at"
    assert "1700000000000" in detail
    assert str(MAX_TS) in detail
    assert "milliseconds" in detail


def test_a_negative_at_is_refused_with_both_numbers():
    assert refusal(at=-1) == ("at", "at: -1, limit 0")


@pytest.mark.parametrize("value", [1.5, 1e20, 2**64])
def test_an_at_that_is_no_integer_is_refused(value):
    assert refusal(at=value)[0] == "at"


@pytest.mark.parametrize(("value", "digits"), [(1.5, "1.5"), (2**64, "1.8446744")])
def test_an_at_that_is_no_integer_is_in_the_text(value, digits):
    assert digits in refusal(at=value)[1]


@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_a_timeout_of_nothing_is_refused_with_both_numbers(value):
    field, detail = refusal(timeout_ms=value)
    assert field == "timeout_ms"
    assert str(value) in detail
    assert "limit 0" in detail


@pytest.mark.parametrize(("value", "limit"), [(MAX_EXPLAIN + 1, MAX_EXPLAIN), (-1, 0)])
def test_an_explain_out_of_range_is_refused_with_both_numbers(value, limit):
    assert refusal(explain=value) == ("explain", f"explain: {value}, limit {limit}")


def test_a_user_id_of_129_bytes_is_refused_with_both_numbers():
    assert refusal(user_id="é" * 64 + "x") == ("user_id", "user_id: 129 bytes, an id has 1 to 128")


def test_an_item_id_of_129_bytes_is_refused_with_both_numbers():
    assert refusal(item_ids=["i1", "x" * 129]) == ("item_ids", "item_ids[1] 129 bytes, an id has 1 to 128")


def test_a_request_id_of_129_characters_is_refused_with_both_numbers():
    field, detail = refusal(request_id="x" * 129)
    assert field == "request_id"
    assert "129" in detail
    assert "128" in detail


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("item_ids", ["i1"]), ("item_ids", ["i1"] * 1000), ("at", 0), ("at", MAX_TS), ("explain", 0), ("explain", MAX_EXPLAIN),
        ("timeout_ms", 0.5), ("timeout_ms", 30), ("request_id", "x" * 128), ("user_id", "x" * 128),
    ],
)  # fmt: skip
def test_the_ends_of_each_range_are_accepted(field, value):
    assert getattr(parsed(**{field: value}), field) == value


@given(
    st.dictionaries(
        st.sampled_from(["user_id", "item_ids", "model", "timeout_ms", "at", "context", "explain", "request_id", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_any_object_is_a_request_or_refused_with_a_field(content):
    try:
        named = set(parse(json.dumps(content).encode(), LIMIT).model_fields_set)
    except InvalidRequest as error:
        named = {error.field.partition(".")[0]} if error.detail.startswith(error.field.partition(".")[0]) else set()
    assert named
    assert named <= {*content, "user_id", "item_ids"}


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(body):
    with pytest.raises(ScorerError) as caught:
        parse(body, LIMIT)
    assert caught.value.status in (400, 422)


# what is understood


def test_seven_and_the_text_7_are_one_id():
    request = parsed(user_id=7, item_ids=[7, "7", -(2**63)])
    assert request.user_id == "7"
    assert request.item_ids == ["7", "7", str(-(2**63))]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_beyond_int64_is_no_id(value):
    assert refusal(user_id=value)[0] == "user_id"


def test_an_integer_beyond_64_bits_is_not_called_a_fraction():
    assert "fraction" not in refusal(user_id=2**64)[1]


def test_duplicates_and_their_order_are_kept():
    assert parsed(item_ids=["i2", "i1", "i2"]).item_ids == ["i2", "i1", "i2"]


def test_what_is_not_given_has_its_default():
    request = parsed()
    assert (request.model, request.timeout_ms, request.at, request.context, request.explain, request.request_id) == (
        None, None, None, {}, 0, None,
    )  # fmt: skip


def test_known_items_are_rows_with_their_category_in_the_callers_order(din):
    call = understand(parsed(item_ids=["i6", "i1", "i6"]), din)
    assert call.candidates.row.tolist() == [7, 2, 7]
    assert call.candidates.category.tolist() == [4, 2, 4]


def test_unknown_items_are_the_unknown_row_and_are_counted_with_their_repeats(din):
    call = understand(parsed(item_ids=["i1", "new", "new", "other"]), din)
    assert call.candidates.row.tolist() == [2, UNKNOWN, UNKNOWN, UNKNOWN]
    assert call.unknown_items == 3


def test_known_items_only_count_no_unknown_ones(din):
    assert understand(parsed(item_ids=list(ITEMS)), din).unknown_items == 0


def test_with_at_only_behaviours_before_it_count(din):
    call = understand(parsed(at=1_700_000_000), din)
    assert (call.at, call.before) == (1_700_000_000, 1_700_000_000)


def test_at_zero_is_a_time(din):
    call = understand(parsed(at=0), din)
    assert (call.at, call.before) == (0, 0)


def test_without_at_every_behaviour_counts_and_the_clock_is_the_time(din, monkeypatch):
    monkeypatch.setattr(service.request.time, "time", lambda: 1_700_000_000.9)
    call = understand(parsed(), din)
    assert (call.at, call.before) == (1_700_000_000, None)


def place(din, name, value):
    """What the model reads for a value of a context feature."""
    (feature,) = (feature for feature in din.manifest.schema_.context if feature.name == name)
    return feature.encode(value)


def context_of(din, **fields):
    names = din.manifest.schema_.context_names
    return dict(zip(names, understand(parsed(**fields), din).context.tolist(), strict=True))


@pytest.mark.parametrize("at", [0, 1_700_000_000, 1_704_067_199, 1_704_067_200])  # the last two: around a new year
def test_hour_and_weekday_come_from_at_in_utc(din, at):
    moment = datetime.fromtimestamp(at, UTC)
    context = context_of(din, at=at)
    assert context["hour"] == place(din, "hour", moment.hour)
    assert context["weekday"] == place(din, "weekday", moment.weekday())


def test_hour_and_weekday_come_from_the_clock_without_at(din, monkeypatch):
    monkeypatch.setattr(service.request.time, "time", lambda: 1_700_000_000.0)  # a Tuesday, 22:13 UTC
    context = context_of(din)
    assert context["hour"] == place(din, "hour", 22)
    assert context["weekday"] == place(din, "weekday", 1)


def test_a_given_hour_wins_over_that_of_at(din):
    assert context_of(din, at=1_700_000_000, context={"hour": 3})["hour"] == place(din, "hour", 3)


def test_a_number_and_its_text_are_one_context_value(din):
    assert context_of(din, context={"hour": 13})["hour"] == context_of(din, context={"hour": "13"})["hour"]


def test_an_absent_context_value_is_padding_and_one_never_seen_is_unknown(din):
    assert context_of(din)["page"] == 0
    assert context_of(din, context={"page": "checkout"})["page"] == 1
    assert context_of(din, context={"page": "home"})["page"] == 2


def test_an_unknown_context_name_is_refused_with_the_known_ones(din):
    with pytest.raises(InvalidRequest) as caught:
        understand(parsed(context={"page": "home", "device": "phone"}), din)
    assert caught.value.field == "context.device"
    for name in ("device", "page", "hour", "weekday"):
        assert name in caught.value.detail


@pytest.mark.parametrize("value", [["home"], {"name": "home"}])
def test_a_context_value_that_is_not_one_value_is_refused(din, value):
    with pytest.raises(InvalidRequest) as caught:
        understand(parsed(context={"page": value}), din)
    assert caught.value.field == "context.page"


def test_context_is_what_the_graph_takes(din):
    context = understand(parsed(), din).context
    assert context.dtype == np.int32
    assert context.shape == (3,)
