"""POST /events over HTTP: acknowledged is in the next score, bad calls write nothing, a store that is gone is a 503."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from store import keys
from store.behaviour_tree import BehaviourTree
from tests.service.serving import NOBODY, held, served, until
from tests.service.tiny import ITEMS, USER
from tests.store.events import events_of

NEW = {"user_id": "u2", "item_id": "i3", "ts": 500, "action": "click", "features": {"price": 1.5}}


@pytest.fixture
def stored(tiny, store_url):
    """A tiny installation of the test's own, filled."""
    for model in ("din", "sim_hard", "eta"):
        tiny.add(model)
    tiny.fill(store_url)
    return tiny


@pytest.fixture
def client(stored, store_url):
    with served(stored.bundles, store_url, model="din", max_events=50) as (client, _):
        yield client


def send(client, *events):
    return client.post("/events", json={"events": list(events)})


@pytest.fixture
def life(redis, stored):
    def read(user):
        return events_of(BehaviourTree(redis, stored.data, 1).read_life(user).behaviours)

    return read


def test_accepted_and_duplicates_are_all_events_of_the_call(client, life):
    answer = send(client, NEW, NEW, NEW | {"ts": 501})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "duplicates": 1})
    assert life("u2") == [(4, 3, 500, 2), (4, 3, 501, 2)]
    assert send(client, NEW).json() == {"accepted": 0, "duplicates": 1}


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_an_event_acknowledged_is_in_the_next_score(client, model):
    ask = {"user_id": "u2", "item_ids": list(ITEMS), "model": model}
    before = client.post("/score", json=ask).json()
    for ts in range(1, 4):
        assert send(client, NEW | {"ts": ts}).status_code == 202
        after = client.post("/score", json=ask).json()
        assert after["behaviours"] == before["behaviours"] + 1
        before = after


def test_an_event_of_another_scorer_is_in_the_next_score_too(client, stored, store_url):
    with served(stored.bundles, store_url, model="din") as (other, _):
        ask = {"user_id": "u2", "item_ids": ["i1"]}
        assert other.post("/score", json=ask).json()["behaviours"] == 0
        send(client, NEW)
        assert other.post("/score", json=ask).json()["behaviours"] == 1


def test_a_new_item_is_registered_and_named_in_explanations(client, redis, stored):
    assert send(client, NEW | {"item_id": 77, "category": "c9"}).status_code == 202
    assert redis.hget(keys.item_rows(stored.data), "77") == b"8 5"
    answer = client.post("/score", json={"user_id": "u2", "item_ids": ["i1"], "explain": 1}).json()
    assert answer["explanations"][0][0]["item_id"] == "77"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ts": 1_700_000_000_000}, "events.1.ts: 1700000000000, limit 4102444800 (milliseconds?)"),
        ({"ts": -1}, "events.1.ts: -1, limit 0"),
        ({"ts": "5"}, "events.1.ts"),
        ({"item_id": ""}, "events.1.item_id: 0 bytes, an id has 1 to 128"),
        ({"user_id": None}, "events.1.user_id: is null"),
        ({"features": {"prize": 1}}, "events.1.features.prize: unknown, known are price"),
        ({"features": {"price": "high"}}, "events.1.features.price"),
        ({"what": 1}, "events.1.what"),
    ],
)
def test_a_bad_event_refuses_the_call_by_its_index_and_nothing_is_written(client, life, redis, stored, change, why):
    before = redis.hgetall(keys.registry_meta(stored.data))
    answer = send(client, NEW | {"item_id": "fresh"}, NEW | change)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert why in answer.json()["detail"]
    assert life("u2") == []
    assert redis.hgetall(keys.registry_meta(stored.data)) == before


def test_too_many_events_are_refused_with_both_numbers(client):
    answer = send(client, *[NEW] * 51)
    assert (answer.status_code, answer.json()["detail"]) == (422, "events: 51, limit 50")


@pytest.mark.parametrize("body", [{}, {"events": []}, {"events": {}}, []])
def test_a_call_without_events_is_refused(client, body):
    assert client.post("/events", json=body).status_code == 422


def test_no_json_is_400(client):
    assert client.post("/events", content=b"{", headers={"content-type": "application/json"}).status_code == 400


def test_a_store_that_is_gone_is_503_and_scores_go_on(stored):
    with served(stored.bundles, NOBODY, model="din", store_timeout_ms=50) as (client, _):
        answer = send(client, NEW)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "send the same call again" in answer.json()["detail"]
        assert client.post("/score", json={"user_id": USER, "item_ids": ["i1"]}).json()["degraded"] == ["store_down"]


def test_a_store_without_the_data_set_is_503(tiny, store_url, redis):
    tiny.add("din")
    with served(tiny.bundles, store_url) as (client, _):
        answer = send(client, NEW)
    assert answer.status_code == 503
    assert "store load" in answer.json()["detail"]
    assert redis.keys(f"{tiny.data}*") == []


def test_a_damaged_tree_is_503_names_the_field_and_is_left(client, redis, stored):
    redis.hset(keys.tree(stored.data, "u2"), "3", b"garbage")
    answer = send(client, NEW)
    assert answer.status_code == 503
    assert "user u2: field 3" in answer.json()["detail"]
    assert redis.hgetall(keys.tree(stored.data, "u2")) == {b"3": b"garbage"}


def test_the_key_of_score_is_needed(stored, store_url):
    with served(stored.bundles, store_url, api_key="secret") as (client, _):
        assert send(client, NEW).status_code == 401
        client.headers["authorization"] = "Bearer secret"
        assert send(client, NEW).status_code == 202


def test_caps_are_kept(stored, store_url, life):
    with served(stored.bundles, store_url, tree_cap_per_category=100) as (client, _):
        for start in range(0, 150, 50):
            send(client, *[NEW | {"ts": ts} for ts in range(start, start + 50)])
    assert [event[2] for event in life("u2")] == list(range(50, 150))


def test_calls_and_times_are_counted(client):
    send(client, NEW | {"ts": int(time.time()) - 5}, NEW, NEW, NEW | {"ts": 7, "category": "c1"})
    text = client.get("/metrics").text
    assert 'ctr_events_total{result="accepted"} 3.0' in text
    assert 'ctr_events_total{result="duplicate"} 1.0' in text
    assert "ctr_events_other_category_total 1.0" in text
    assert "ctr_event_freshness_seconds_count 1.0" in text
    assert 'ctr_event_lag_seconds_bucket{le="10.0"} 1.0' in text


def test_the_api_describes_the_body(client):
    schema = client.get("/openapi.json").json()["paths"]["/events"]["post"]
    item = schema["requestBody"]["content"]["application/json"]["schema"]["properties"]["events"]["items"]
    assert set(item["properties"]) == {"user_id", "item_id", "ts", "action", "category", "features"}
    assert {"202", "422", "503"} <= set(schema["responses"])


def test_a_user_without_events_expires_where_the_setting_says_so(stored, store_url, redis):
    with served(stored.bundles, store_url, model="din", user_ttl_s=1000) as (client, _):
        assert send(client, NEW).status_code == 202
    assert 990 < redis.ttl(keys.tree(stored.data, "u2")) <= 1000
    assert redis.ttl(keys.tree(stored.data, USER)) == -1  # no event since


# overload


def test_one_call_more_than_there_are_slots_is_429_at_once_and_not_written(stored, store_url, life):
    with served(stored.bundles, store_url, model="din", max_in_flight=3, events_timeout_ms=60_000) as (client, app):
        with ThreadPoolExecutor(3) as threads, held(app.state.service.event_thread):
            waiting = [threads.submit(send, client, NEW | {"ts": ts}) for ts in range(3)]
            until(lambda: app.state.service.event_slots.taken == 3)
            refused = [send(client, NEW | {"ts": 100 + i}) for i in range(5)]
            assert client.post("/score", json={"user_id": USER, "item_ids": ["i1"]}).status_code == 200
        assert [future.result().status_code for future in waiting] == [202] * 3
        for answer in refused:
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert answer.json()["detail"] == "in flight: 3, limit 3"
        assert 'ctr_rejected_total{reason="no_free_slot"} 5.0' in client.get("/metrics").text
        assert send(client, NEW | {"ts": 3}).status_code == 202
    assert [event[2] for event in life("u2")] == [0, 1, 2, 3]


@pytest.mark.parametrize(("event", "status"), [(NEW | {"ts": -1}, 422), (NEW, 503)])
def test_a_refused_call_gives_its_slot_back(stored, event, status):
    with served(stored.bundles, NOBODY, model="din", max_in_flight=1) as (client, app):
        assert [send(client, event).status_code for _ in range(3)] == [status] * 3
        assert app.state.service.event_slots.taken == 0


def test_a_call_that_waited_past_its_deadline_is_504_and_not_written(stored, store_url, life):
    with served(stored.bundles, store_url, model="din", events_timeout_ms=200) as (client, app):
        with ThreadPoolExecutor(1) as threads, held(app.state.service.event_thread):
            late = threads.submit(send, client, NEW)
            time.sleep(0.3)
        answer = late.result()
        assert (answer.status_code, answer.json()["field"]) == (504, "queue")
        assert "limit 200 ms" in answer.json()["detail"]
        assert send(client, NEW | {"ts": 7}).status_code == 202
    assert [event[2] for event in life("u2")] == [7]


def test_a_long_listing_does_not_hold_events_up(stored, store_url):
    with served(stored.bundles, store_url, model="din") as (client, app), ThreadPoolExecutor(1) as threads:
        with held(app.state.service.user_thread):
            listing = threads.submit(client.get, f"/users/{USER}/behaviours")
            until(lambda: app.state.service.user_slots.taken == 1)
            assert send(client, NEW).status_code == 202
            assert not listing.done()
        assert listing.result().status_code == 200


def test_freshness_counts_from_the_arrival_of_the_call(stored, store_url):
    with served(stored.bundles, store_url, model="din") as (client, app), ThreadPoolExecutor(1) as threads:
        with held(app.state.service.event_thread):
            waiting = threads.submit(send, client, NEW)
            time.sleep(0.3)
        assert waiting.result().status_code == 202
        lines = client.get("/metrics").text.splitlines()
    (total,) = [float(line.split()[1]) for line in lines if line.startswith("ctr_event_freshness_seconds_sum")]
    assert 0.25 < total < 30
