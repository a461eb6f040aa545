import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidJson, InvalidRequest, ScorerError
from service.sent_events import read_call, read_message
from store.events import Event

ONE = {"user_id": 7, "item_id": "i1", "ts": 5, "features": {"price": 1.5, "rating": None}}
SAME = Event("7", "i1", 5, None, {"price": 1.5})
FEATURES = ["price", "rating"]


def message(content, features=FEATURES, limit=10):
    return read_message(orjson.dumps(content), features, limit)


def test_a_message_is_one_event_or_several_as_in_a_call():
    assert message(ONE) == [SAME]
    assert message({"events": [ONE, ONE | {"ts": 6}]}) == [SAME, Event("7", "i1", 6, None, {"price": 1.5})]
    assert message({"events": [ONE]}) == read_call(orjson.dumps({"events": [ONE]}), FEATURES, 10)


def test_a_call_is_several_events_only():
    with pytest.raises(InvalidRequest, match="events"):
        read_call(orjson.dumps(ONE), FEATURES, 10)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ts": 1_700_000_000_000}, "ts: 1700000000000, limit 4102444800 (milliseconds?)"),
        ({"user_id": None}, "user_id: is null"),
        ({"features": {"prize": 1}}, "features.prize: unknown, known are price, rating"),
        ({"what": 1}, "what"),
    ],
)
def test_what_is_wrong_is_named_with_the_index_where_there_are_several(change, why):
    with pytest.raises(InvalidRequest) as alone:
        message(ONE | change)
    assert alone.value.detail.startswith(why)
    with pytest.raises(InvalidRequest) as among:
        message({"events": [ONE, ONE | change]})
    assert among.value.detail.startswith(f"events.1.{why}")


def test_more_events_than_the_limit_are_refused_with_both_numbers():
    with pytest.raises(InvalidRequest, match="events: 11, limit 10"):
        message({"events": [ONE] * 11})


def test_a_data_set_without_features_knows_none():
    with pytest.raises(InvalidRequest, match="known are none"):
        message(ONE, features=[])


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b'{"ts": NaN}'])
def test_no_json_is_malformed(payload):
    with pytest.raises(InvalidJson):
        read_message(payload, FEATURES, 10)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists).map(repr).map(str.encode))
def test_whatever_comes_is_read_or_refused_by_name(payload):
    with contextlib.suppress(ScorerError):
        assert all(isinstance(event, Event) for event in read_message(payload, FEATURES, 10))
