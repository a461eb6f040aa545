"""What the store holds of one user, over HTTP: read with the scoring key, removed with the admin's."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from store import keys
from store.behaviour_tree import BehaviourTree
from tests.service.serving import NOBODY, held, served, until
from tests.service.tiny import HISTORY, USER

KEYS = {"api_key": "scoring", "admin_api_key": "admin"}


@pytest.fixture
def stored(tiny, store_url):
    tiny.add("din")
    tiny.fill(store_url)
    return tiny


@pytest.fixture
def client(stored, store_url):
    with served(stored.bundles, store_url, **KEYS) as (client, _):
        yield client


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_behaviours_come_newest_first_with_names_and_buckets(client):
    answer = client.get(f"/users/{USER}/behaviours", headers=bearer("scoring"))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["user_id"], body["total"], body["bad_records"]) == (USER, 4, 0)
    assert body["behaviours"][0] == {"item_id": "i5", "category": "c3", "ts": 400, "buckets": {"price": 1}}
    assert [one["ts"] for one in body["behaviours"]] == [400, 300, 200, 100]


def test_a_limit_keeps_the_newest(client):
    body = client.get(f"/users/{USER}/behaviours?limit=2", headers=bearer("scoring")).json()
    assert ([one["ts"] for one in body["behaviours"]], body["total"]) == ([400, 300], 4)


def pages(client, path, limit):
    """Every page of a listing, by the cursor that the one before gave."""
    answer = client.get(f"{path}?limit={limit}", headers=bearer("scoring")).json()
    yield answer
    while answer["next"] is not None:
        answer = client.get(f"{path}?limit={limit}&after={answer['next']}", headers=bearer("scoring")).json()
        yield answer


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_pages_one_after_another_are_the_whole_listing(client, redis, stored, limit):
    events = [(item, ts, 1) for ts in (100, 200) for item in ("i1", "i3", "i4", "i5")]  # some share a second
    BehaviourTree(redis, stored.data, 1).write("p", stored.history(events))
    whole = client.get("/users/p/behaviours", headers=bearer("scoring")).json()
    assert (len(whole["behaviours"]), whole["next"]) == (8, None)
    found = list(pages(client, "/users/p/behaviours", limit))
    assert [one for page in found for one in page["behaviours"]] == whole["behaviours"]
    assert [len(page["behaviours"]) for page in found] == [limit] * (8 // limit) + [8 % limit] * (8 % limit > 0)
    assert {page["total"] for page in found} == {8}


def test_a_cursor_stays_where_it_is_while_events_arrive(client, redis, stored):
    first = client.get(f"/users/{USER}/behaviours?limit=2", headers=bearer("scoring")).json()
    tree = BehaviourTree(redis, stored.data, 1)
    tree.write(USER, stored.history((("i4", 50, 1), *HISTORY[:2], *HISTORY[3:], ("i6", 500, 1))))  # the last one shown is gone
    after = client.get(f"/users/{USER}/behaviours?after={first['next']}", headers=bearer("scoring")).json()
    assert [one["ts"] for one in after["behaviours"]] == [200, 100, 50]


@pytest.mark.parametrize("after", ["x", "5", "-5-2", "5-", "5-2-1", "5-2%0A", "9" * 20 + "-1", "1-" + "9" * 20])
def test_a_cursor_that_no_answer_gave_is_refused(client, after):
    answer = client.get(f"/users/{USER}/behaviours?after={after}", headers=bearer("scoring"))
    assert (answer.status_code, answer.json()["field"]) == (422, "after")


@pytest.mark.parametrize(("limit", "why"), [("0", "limit: 0, limit 1"), ("10001", "limit: 10001, limit 10000")])
def test_a_limit_out_of_range_is_refused_with_both_numbers(client, limit, why):
    answer = client.get(f"/users/{USER}/behaviours?limit={limit}", headers=bearer("scoring"))
    assert (answer.status_code, answer.json()["detail"]) == (422, why)


def test_a_limit_that_is_no_number_is_refused(client):
    assert client.get(f"/users/{USER}/behaviours?limit=x", headers=bearer("scoring")).status_code == 422


def test_an_unknown_user_has_none(client):
    assert client.get("/users/nobody/behaviours", headers=bearer("scoring")).json()["behaviours"] == []


def test_an_id_may_have_a_slash(client, redis, stored):
    redis.copy(keys.tree(stored.data, USER), keys.tree(stored.data, "a/b c"))
    assert client.get("/users/a%2Fb%20c/behaviours", headers=bearer("scoring")).json()["total"] == 4
    assert client.delete("/users/a%2Fb%20c", headers=bearer("admin")).json() == {"user_id": "a/b c", "removed": True}


def test_what_cannot_be_read_is_counted(client, redis, stored):
    redis.hset(keys.tree(stored.data, USER), "2", b"garbage")
    body = client.get(f"/users/{USER}/behaviours", headers=bearer("scoring")).json()
    assert (body["total"], body["bad_records"]) == (2, 1)


def test_a_user_is_removed_with_every_state(client, redis, stored):
    redis.hset(keys.states(stored.data, USER), "sdim", b"state")
    assert client.delete(f"/users/{USER}", headers=bearer("admin")).json() == {"user_id": USER, "removed": True}
    assert redis.exists(keys.tree(stored.data, USER), keys.states(stored.data, USER)) == 0
    assert client.delete(f"/users/{USER}", headers=bearer("admin")).json()["removed"] is False
    score = client.post("/score", json={"user_id": USER, "item_ids": ["i1"]}, headers=bearer("scoring")).json()
    assert (score["behaviours"], score["degraded"]) == (0, [])


@pytest.mark.parametrize(("headers", "status"), [({}, 401), (bearer("wrong"), 401), (bearer("scoring"), 403)])
def test_removing_needs_the_admin_key(client, redis, stored, headers, status):
    assert client.delete(f"/users/{USER}", headers=headers).status_code == status
    assert redis.exists(keys.tree(stored.data, USER))


def test_reading_needs_the_scoring_key(client):
    assert client.get(f"/users/{USER}/behaviours").status_code == 401


def test_without_an_admin_key_there_is_no_such_path(stored, store_url, redis):
    with served(stored.bundles, store_url) as (client, _):
        assert client.delete(f"/users/{USER}").status_code == 404
        assert client.get(f"/users/{USER}/behaviours").status_code == 200
    assert redis.exists(keys.tree(stored.data, USER))


def test_a_store_that_is_gone_is_503(stored):
    with served(stored.bundles, NOBODY, store_timeout_ms=50, **KEYS) as (client, _):
        for answer in (
            client.get(f"/users/{USER}/behaviours", headers=bearer("scoring")),
            client.delete(f"/users/{USER}", headers=bearer("admin")),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_call_that_waited_too_long_for_its_turn_is_504_and_does_nothing(stored, store_url):
    with served(stored.bundles, store_url, events_timeout_ms=50, **KEYS) as (client, app), ThreadPoolExecutor(1) as threads:
        service = app.state.service
        with held(service.user_thread):
            late = threads.submit(client.delete, f"/users/{USER}", headers=bearer("admin"))
            until(lambda: service.user_slots.taken == 1)
            time.sleep(0.06)
        assert (late.result().status_code, late.result().json()["field"]) == (504, "queue")
        assert client.get(f"/users/{USER}/behaviours", headers=bearer("scoring")).json()["total"] == len(HISTORY)


def test_one_call_more_than_there_are_slots_is_429(stored, store_url):
    path = f"/users/{USER}/behaviours"
    with served(stored.bundles, store_url, max_in_flight=2) as (client, app):
        with ThreadPoolExecutor(2) as threads:
            with held(app.state.service.user_thread):
                waiting = [threads.submit(client.get, path) for _ in range(2)]
                until(lambda: app.state.service.user_slots.taken == 2)
                refused = client.get(path)
            assert [future.result().status_code for future in waiting] == [200] * 2
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def test_the_api_describes_limit_and_cursor(client):
    parameters = client.get("/openapi.json").json()["paths"]["/users/{user_id}/behaviours"]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {"user_id", "limit", "after"}
