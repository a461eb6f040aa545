"""Messages into trees against a real store; no broker."""

import dataclasses

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as StoreGone
from redis.exceptions import ResponseError

from service import stream_intake
from service.metrics import ConsumerMetrics
from service.stream_intake import Message, StreamIntake
from store import keys
from store.append import Caps
from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.events import EventWriter, StoreNotLoaded, Written
from store.schema import CrossFeature, Schema
from tests.service.tiny import ITEMS
from tests.store.events import events_of

NEW = {"user_id": "u2", "item_id": "i3", "ts": 500, "features": {"price": 1.5}}


@pytest.fixture
def metrics():
    return ConsumerMetrics()


@pytest.fixture
def intake(tiny, store_url, redis, metrics):
    tiny.fill(store_url)
    return StreamIntake(redis, tiny.data, Caps(), 50, 4000, metrics.events)


@pytest.fixture
def life(redis, tiny):
    return lambda user: events_of(BehaviourTree(redis, tiny.data, 1).read_life(user).behaviours)


def message(content, source="1-0"):
    return Message(source, 1_000.0, content if isinstance(content, bytes) else orjson.dumps(content))


def counted(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_messages_of_one_event_and_of_several_are_in_the_trees(intake, life):
    assert intake.take([message(NEW), message({"events": [NEW | {"ts": 501}, NEW | {"user_id": "u3"}]})]) == []
    assert life("u2") == [(4, 3, 500, 2), (4, 3, 501, 2)]
    assert life("u3") == [(4, 3, 500, 2)]


def test_messages_are_written_together(intake, redis, monkeypatch):
    writes, write = [], EventWriter.write_each
    monkeypatch.setattr(EventWriter, "write_each", lambda self, events: writes.append(len(events)) or write(self, events))
    intake.take([message(NEW | {"ts": ts}) for ts in range(40)])
    assert writes == [40]
    monkeypatch.setattr(stream_intake, "A_WRITE", 15)
    intake.take([message(NEW | {"ts": ts}) for ts in range(40)])
    assert writes[1:] == [15, 15, 10]


def test_what_is_no_event_is_handed_back_with_the_reason_and_the_rest_is_written(intake, life):
    bad = {
        "1-1": (b"{", "malformed JSON"),
        "1-2": (NEW | {"ts": -1}, "invalid request: ts: -1, limit 0"),
        "1-3": (NEW | {"features": {"prize": 1}}, "features.prize: unknown, known are price"),
        "1-4": ({"events": [NEW, NEW | {"item_id": ""}]}, "events.1.item_id: 0 bytes"),
        "1-5": (b'"' + b"x" * 4000, "body too large: message: 4001 bytes, limit 4000"),
        "1-6": ([NEW], "body: list, an object is needed"),
    }
    dead = intake.take([message(NEW | {"ts": 1}), *(message(content, at) for at, (content, _) in bad.items()), message(NEW)])
    assert [letter.message.source for letter in dead] == list(bad)
    assert [why for letter, (_, why) in zip(dead, bad.values(), strict=True) if why not in letter.reason] == []
    assert [event[2] for event in life("u2")] == [1, 500]  # nothing of the message with one bad event


def test_a_message_that_the_broker_could_not_read_is_handed_back(intake):
    (dead,) = intake.take([Message("1-0", 1.0, b"{}", "entry: fields x, `data` is needed")])
    assert "`data` is needed" in dead.reason


def test_a_tree_that_takes_nothing_costs_its_own_messages_only(intake, life, redis, tiny, metrics):
    redis.hset(keys.tree(tiny.data, "damaged"), "3", b"garbage")
    redis.set(keys.tree(tiny.data, "foreign"), "no hash")
    users = [f"v{i}" for i in range(9)]
    users[3:3], users[6:6] = ["damaged"], ["foreign"]
    messages = [message(NEW | {"user_id": user}, f"{i}-0") for i, user in enumerate(users)]
    both = message({"events": [NEW | {"user_id": "v9"}, NEW | {"user_id": "foreign"}]}, "11-0")
    dead = intake.take([*messages, both])
    assert [letter.message.source for letter in dead] == ["3-0", "6-0", "11-0"]
    assert all(letter.reason.startswith("unreadable tree: ") for letter in dead)
    assert "damaged: field 3" in dead[0].reason
    assert "WRONGTYPE" in dead[1].reason
    assert all(life(f"v{i}") == [(4, 3, 500, 2)] for i in range(10))
    assert redis.hgetall(keys.tree(tiny.data, "damaged")) == {b"3": b"garbage"}
    assert counted(metrics, "ctr_event_freshness_seconds_count") == 9
    assert counted(metrics, "ctr_events_total", result="accepted") == 10
    assert not counted(metrics, "ctr_events_total", result="duplicate")


def test_a_fault_that_is_not_the_trees_is_raised(intake, monkeypatch):
    full = ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
    monkeypatch.setattr(EventWriter, "write_each", lambda self, events: (Written(0, 0, 0), {"u2": full}))
    with pytest.raises(ResponseError, match="OOM"):
        intake.take([message(NEW)])


def test_a_store_that_is_gone_is_raised_and_nothing_is_handed_back(tiny, metrics):
    gone = StreamIntake(connect("redis://127.0.0.1:1"), tiny.data, Caps(), 50, 4000, metrics.events)
    with pytest.raises(StoreGone):
        gone.take([message(NEW), message(b"{")])


def test_a_store_that_is_loaded_anew_with_another_schema_is_followed(intake, redis, tiny, store_url, life):
    intake.take([message(NEW)])
    redis.delete(*redis.keys(f"{tiny.data}:*"))
    for _ in range(2):
        with pytest.raises(StoreNotLoaded, match=tiny.data):
            intake.take([message(NEW)])
    schema = Schema(data=tiny.data, cross_features=[CrossFeature(name="colour", edges=[7.0])], context=[])
    dataclasses.replace(tiny, schema=schema).fill(store_url)
    assert intake.take([message(NEW | {"features": {"colour": 9}})]) == []
    assert life("u2") == [(4, 3, 500, 2)]


def test_a_schema_that_changed_between_two_batches_is_read_again(intake, tiny, redis, store_url):
    intake.take([message(NEW)])
    redis.delete(*redis.keys(f"{tiny.data}:*"))
    schema = Schema(data=tiny.data, cross_features=[CrossFeature(name="colour", edges=[7.0])], context=[])
    dataclasses.replace(tiny, schema=schema).fill(store_url)
    with pytest.raises(StoreNotLoaded):  # and no dead letter, though the schema before knows no colour
        intake.take([message(NEW | {"features": {"colour": 9}})])
    assert intake.take([message(NEW | {"features": {"colour": 9}})]) == []


def test_events_are_counted_and_timed(intake, metrics):
    intake.take([message(NEW), message(NEW), message({"events": [NEW | {"ts": 1}, NEW | {"ts": 2, "category": "c1"}]})])
    assert counted(metrics, "ctr_events_total", result="accepted") == 3
    assert counted(metrics, "ctr_events_total", result="duplicate") == 1
    assert counted(metrics, "ctr_events_other_category_total") == 1
    assert counted(metrics, "ctr_event_freshness_seconds_count") == 3  # messages
    assert counted(metrics, "ctr_event_lag_seconds_count") == 4  # events


EVENT = st.builds(
    lambda user, item, ts: {"user_id": f"h{user}", "item_id": item, "ts": ts},
    st.integers(0, 2), st.sampled_from(list(ITEMS)), st.integers(0, 5),
)  # fmt: skip
WRONG = st.sampled_from([{"ts": -1}, {"user_id": ""}, {"features": {"q": 1}}])
POISON = st.binary(max_size=8).map(lambda some: b"{" + some + b"}") | st.builds(
    lambda event, wrong: orjson.dumps(event | wrong), EVENT, WRONG
)


@given(st.lists(st.lists(EVENT.map(orjson.dumps) | POISON, max_size=8), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_of_valid_duplicate_and_poison_messages_leaves_the_trees_of_the_valid_ones(
    intake, life, redis, tiny, batches
):
    for user in range(3):
        redis.delete(keys.tree(tiny.data, f"h{user}"))
    sent = [payload for batch in batches for payload in batch]
    dead = [letter for batch in batches for letter in intake.take([message(payload) for payload in batch])]
    valid = [event for payload in sent if (event := _valid(payload))]
    assert len(dead) == len(sent) - len(valid)
    row = tiny.registry.row_of
    for user in range(3):
        expected = {(event["ts"], row[event["item_id"]]) for event in valid if event["user_id"] == f"h{user}"}
        assert [(ts, item) for item, _, ts, _ in life(f"h{user}")] == sorted(expected)


def _valid(payload):
    """The event, unless it is one of the poison above: none of those is an object with these three fields."""
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    fits = set(event) == {"user_id", "item_id", "ts"} and event["ts"] >= 0 and event["user_id"] != ""
    return event if fits else None
