import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from store import keys
from store.schema import CLOCK_CONTEXT, MAX_EDGES, ContextFeature, CrossFeature, Schema, stored_data_sets, stored_schema

AT = 1_700_000_000  # Tuesday 2023-11-14, 22:13:20 UTC
PRICE = CrossFeature(name="price", edges=[1.0, 2.5])
HOUR = ContextFeature(name="hour", values=[str(hour) for hour in range(24)])
WEEKDAY = ContextFeature(name="weekday", values=[str(day) for day in range(7)])
STORE = ContextFeature(name="store", values=["north", "south"])

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def schema(**changes):
    return Schema(**{"data": "d", "cross_features": [PRICE], "context": [STORE], **changes})


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(-5, 1), (0.99, 1), (1.0, 2), (2.49, 2), (2.5, 3), (1e9, 3), (float("inf"), 3), (float("-inf"), 1), (float("nan"), 0)],
)
def test_a_value_falls_between_its_edges(value, bucket):
    assert PRICE.encode(np.array([value])).tolist() == [bucket]


def test_a_feature_without_edges_only_says_whether_it_is_there():
    assert CrossFeature(name="seen", edges=[]).encode(np.array([3.0, np.nan])).tolist() == [1, 0]


def test_buckets_counts_the_missing_one_too():
    assert PRICE.buckets == 4
    assert PRICE.encode(np.array([9.0])).max() == PRICE.buckets - 1


def test_the_most_edges_still_fit_a_byte():
    feature = CrossFeature(name="fine", edges=list(range(MAX_EDGES)))
    assert feature.encode(np.array([-1.0, 1e9, np.nan])).tolist() == [1, 254, 0]
    assert feature.encode(np.array([0.0])).dtype == np.uint8


def test_one_edge_more_is_refused():
    with pytest.raises(ValidationError, match="edges"):
        CrossFeature(name="finer", edges=list(range(MAX_EDGES + 1)))


@given(
    st.lists(st.floats(), max_size=20),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20, unique=True).map(sorted),
)
def test_a_bucket_is_one_more_than_the_edges_not_above_the_value(values, edges):
    slow = [0 if np.isnan(value) else 1 + sum(edge <= value for edge in edges) for value in values]
    assert CrossFeature(name="x", edges=edges).encode(np.array(values, np.float64)).tolist() == slow


@pytest.mark.parametrize(("value", "code"), [("north", 2), ("south", 3), ("east", 1), (None, 0)])
def test_a_context_value_is_its_position_and_the_unseen_is_1(value, code):
    assert STORE.encode(value) == code


def test_a_context_number_is_found_by_its_text():
    assert HOUR.encode(13) == HOUR.encode("13") == 15


def test_size_is_the_number_of_codes():
    assert STORE.size == 4


def test_the_clock_fills_hour_and_weekday():
    codes = schema(context=[HOUR, WEEKDAY]).encode_context({}, AT)
    assert codes.tolist() == [22 + 2, 1 + 2]
    assert codes.dtype == np.int32


@pytest.mark.parametrize("day", range(7))
def test_monday_is_weekday_0(day):
    at = int(datetime(2024, 1, 1 + day, 12, tzinfo=UTC).timestamp())  # 2024-01-01 was a Monday
    assert schema(context=[WEEKDAY]).encode_context({}, at).tolist() == [day + 2]


def test_a_given_value_wins_over_the_clock():
    assert schema(context=[HOUR]).encode_context({"hour": 3}, AT).tolist() == [5]


def test_context_is_in_the_order_of_the_schema():
    both = schema(context=[STORE, HOUR])
    assert both.encode_context({"hour": 0, "store": "south"}, AT).tolist() == [3, 2]
    assert both.context_names == ["store", "hour"]


def test_a_context_value_that_is_not_given_is_padding():
    assert schema().encode_context({}, AT).tolist() == [0]


def test_the_clock_knows_every_value_of_its_features():
    assert CLOCK_CONTEXT == {"hour": 24, "weekday": 7}


def test_equal_content_has_one_version():
    assert schema().version == schema().version != ""


@pytest.mark.parametrize(
    "change",
    [
        {"data": "other"},
        {"cross_features": []},
        {"cross_features": [CrossFeature(name="price", edges=[1.0, 2.6])]},
        {"cross_features": [CrossFeature(name="cost", edges=[1.0, 2.5])]},
        {"context": []},
        {"context": [ContextFeature(name="store", values=["south", "north"])]},
        {"time_from_steps": True},
    ],
)
def test_other_content_has_another_version(change):
    assert schema(**change).version != schema().version


def test_a_schema_comes_back_from_its_text():
    assert Schema.model_validate_json(schema().model_dump_json()) == schema()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=10, unique=True).map(sorted))
def test_edges_come_back_to_the_last_bit(edges):
    made = schema(cross_features=[CrossFeature(name="price", edges=edges)])
    assert Schema.model_validate_json(made.model_dump_json()).cross_features[0].edges == edges


def tampered(change):
    content = json.loads(schema().model_dump_json())
    change(content)
    return json.dumps(content)


def test_a_changed_edge_under_the_old_version_is_refused():
    with pytest.raises(ValidationError, match="does not match its content"):
        Schema.model_validate_json(tampered(lambda content: content["cross_features"][0]["edges"].__setitem__(0, 0.5)))


def test_another_version_over_the_old_content_is_refused():
    with pytest.raises(ValidationError, match="schema version 0123"):
        Schema.model_validate_json(tampered(lambda content: content.update(version="0123")))


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="colour"):
        Schema.model_validate_json(tampered(lambda content: content.update(colour="red")))


def test_a_schema_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        schema().data = "other"


def test_the_data_sets_of_a_store_are_those_with_a_schema(redis, data_name):
    other = f"{data_name}.b"
    assert not {data_name, other} & set(stored_data_sets(redis))
    for name in (data_name, other):
        redis.set(keys.schema(name), schema(data=name).model_dump_json())
    redis.set(f"{data_name}:of:others:schema", "no data set of ours")
    redis.hset(keys.schema(f"{data_name}.c"), "no", "string")
    assert [name for name in stored_data_sets(redis) if name.startswith(data_name)] == [data_name, other]
    assert stored_schema(redis, other) == schema(data=other)
    assert stored_schema(redis, f"{data_name}.d") is None
