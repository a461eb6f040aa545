"""What the page is made of, over HTTP; the page itself is in test_page.py."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from service.ui import FOLDER, MAX_SHOWN
from service.user_map import CANDIDATES, CATEGORIES, USERS, counted
from store.behaviour_tree import BehaviourTree
from store.types import Behaviours
from tests.service.serving import NOBODY, served, until
from tests.service.tiny import HISTORY, ITEMS, USER

ASK = {"user_id": USER, "item_ids": ["i1", "i4", "new"], "model": "eta"}


@pytest.fixture
def stored(tiny, store_url):
    for model in ("din", "eta"):
        tiny.add(model)
    tiny.fill(store_url)
    return tiny


@pytest.fixture
def client(stored, store_url):
    with served(stored.bundles, store_url) as (client, _):
        yield client


def test_the_page_is_answered_itself_and_may_load_from_here_only(client):
    answer = client.get("/ui")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert re.findall(r"(\w+-src) ([^;]+)", answer.headers["content-security-policy"])[0] == ("default-src", "'none'")
    assert "http" not in answer.headers["content-security-policy"]


def test_everything_that_the_page_names_is_there(client):
    text = client.get("/ui").text
    named = re.findall(r'(?:href|src)="(ui/files/[^"]+)"', text)
    for script in FOLDER.glob("*.js"):
        named += [f"ui/files/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())]
    assert len(named) > 4
    assert {client.get(f"/{name}").status_code for name in named} == {200}


def test_only_what_the_page_loads_is_served_and_nobody_frames_it(client):
    assert "frame-ancestors 'none'" in client.get("/ui").headers["content-security-policy"]
    for name in ("index.html", "screenshots/heavy_user.png", "..%2Fui.py", "nothing.js"):
        assert client.get(f"/ui/files/{name}").status_code == 404, name
    script = client.get("/ui/files/page.js")
    assert "javascript" in script.headers["content-type"]
    assert script.headers["cache-control"] == "no-cache"  # a browser with an older map.js would mix two versions


def test_no_file_of_the_page_names_another_host():
    for path in [*FOLDER.glob("*.js"), *FOLDER.glob("*.css"), *FOLDER.glob("*.html")]:
        assert not re.search(r"(?:https?:)?//[a-z0-9]", re.sub(r"^//.*| // .*", "", path.read_text(), flags=re.MULTILINE)), path


def test_with_a_key_the_page_is_open_and_what_it_asks_for_is_not(stored, store_url):
    with served(stored.bundles, store_url, api_key="scoring") as (client, _):
        assert client.get("/ui").status_code == 200
        closed = [client.get("/ui/start"), client.get(f"/ui/users/{USER}"), client.post("/ui/score", json=ASK)]
        assert {answer.status_code for answer in closed} == {401}
        key = {"authorization": "Bearer scoring"}
        assert client.get("/ui/start", headers=key).status_code == 200


def test_the_page_begins_with_models_and_users_of_all_lengths(client, stored, redis):
    for user in range(20):
        BehaviourTree(redis, stored.data, 1).write(f"v{user}", stored.history([("i1", ts, 1) for ts in range(user + 5)]))
    body = client.get("/ui/start").json()
    assert (body["data"], body["models"], body["default"]) == (stored.data, ["din", "eta"], "din")
    totals = [user["total"] for user in body["users"]]
    assert len(totals) == USERS
    assert totals == sorted(totals, reverse=True)
    assert (totals[0], totals[-1]) == (24, len(HISTORY))


def test_versions_can_be_chosen_where_there_are_several(stored, store_url):
    stored.add("din", "20270131T120000Z")
    with served(stored.bundles, store_url, admin_api_key="admin") as (client, _):
        call = client.post(
            "/v2/repository/models/din/load", json={"parameters": {"version": "20260131T120000Z"}},
            headers={"authorization": "Bearer admin"},
        )  # fmt: skip
        assert call.status_code == 200
        assert client.get("/ui/start").json()["models"] == ["din", "eta", "din:20260131T120000Z", "din:20270131T120000Z"]


def test_without_a_store_there_are_models_and_no_users(stored):
    with served(stored.bundles, NOBODY) as (client, _):
        body = client.get("/ui/start").json()
        assert (body["models"], body["users"]) == (["din", "eta"], [])
        assert client.get(f"/ui/users/{USER}").status_code == 503


def test_a_score_for_the_page_is_that_of_score_and_names_all_that_was_picked(client):
    shown, plain = client.post("/ui/score", json=ASK), client.post("/score", json=ASK | {"explain": 1})
    body, of_score = shown.json(), plain.json()
    assert body["scores"] == of_score["scores"]
    assert body["categories"] == ["c1", "c2", None]
    picked, named = body["picked"], body["picked"]["behaviours"]
    everything = []
    for own, weights in zip(picked["list_of"], picked["weights"], strict=True):
        keys = [(named["item_id"][at], named["ts"][at], named["category"][at]) for at in picked["lists"][own]]
        everything.append(sorted(zip(weights, keys, strict=True), reverse=True))
    of_all = client.post("/score", json=ASK | {"explain": 20}).json()["explanations"]
    for mine, theirs in zip(everything, of_all, strict=True):
        assert [key for _, key in mine] == [(one["item_id"], one["ts"], one["category"]) for one in theirs]
        assert [weight for weight, _ in mine] == pytest.approx([one["weight"] for one in theirs])
    assert [len(one) for one in everything] == [3, 3, 3]  # K, where the first /score was asked for one
    assert [one[:1] for one in of_all] == of_score["explanations"]
    assert named["size"] == [1] * len(named["ts"])
    assert "attend" in shown.headers["server-timing"]


def test_somebody_who_looks_on_is_in_no_data_and_no_figure_of_production(stored, tmp_path):
    stored.add("eta", "20250131T120000Z")
    labels = {"stable": "20260131T120000Z", "canary": None, "shadow": "20250131T120000Z"}
    (stored.bundles / "eta/labels.json").write_text(json.dumps(labels))
    of_scoring = r"^ctr_(?:stage|cand|behaviours|unkn|mean|degr|shadow|request_log)\w*(?:_count|_total).*"
    with served(stored.bundles, NOBODY, request_log=str(tmp_path), request_log_share=1.0) as (client, _):
        before = re.findall(of_scoring, client.get("/metrics").text, re.MULTILINE)
        answer = client.post("/ui/score", json=ASK)
        assert (answer.status_code, answer.json()["degraded"]) == (200, ["store_down"])
        text = client.get("/metrics").text
        assert re.findall(of_scoring, text, re.MULTILINE) == before
        assert 'ctr_requests_total{code="200",model="eta",route="/ui/score",version="20260131T120000Z"} 1.0' in text
        assert client.post("/score", json=ASK).status_code == 200
        wanted = {"ctr_stage", "ctr_candidates", "ctr_behaviours", "ctr_unknown", "ctr_mean", "ctr_degraded", "ctr_shadow"}

        def changed():
            lines = set(re.findall(of_scoring, client.get("/metrics").text, re.MULTILINE)) - set(before)
            return {re.match(r"ctr_[a-z]+", line)[0] for line in lines}

        until(lambda: changed() >= wanted)  # the shadow has a thread of its own
    (file,) = tmp_path.glob("*.parquet")
    assert pq.read_table(file).num_rows == len(ASK["item_ids"])  # of /score alone


def test_the_page_can_be_turned_off(stored):
    with served(stored.bundles, NOBODY, ui="off") as (client, _):
        calls = [client.get("/ui"), client.get("/ui/start"), client.post("/ui/score", json=ASK), client.get("/ui/files/page.js")]
        assert {answer.status_code for answer in calls} == {404}
        assert client.post("/score", json=ASK).status_code == 200


def test_the_page_shows_so_many_candidates_and_no_more(client):
    answer = client.post("/ui/score", json=ASK | {"item_ids": ["i1"] * (MAX_SHOWN + 1)})
    assert answer.status_code == 422
    assert f"limit {MAX_SHOWN}" in answer.json()["detail"]


def test_a_map_counts_every_behaviour_once(client):
    body = client.get(f"/ui/users/{USER}?bins=3").json()
    assert body["total"] == len(HISTORY)
    assert body["edges"] == [100, 200, 300, 401]
    counts = {row["category"]: row["counts"] for row in body["categories"]}
    assert counts == {"c1": [1, 0, 1], "c2": [0, 1, 0], "c3": [0, 0, 1]}
    assert body["others"] == {"categories": 0, "counts": [0, 0, 0]}


def test_candidates_are_suggested_from_what_the_user_has_and_the_same_again(client):
    first, again = (client.get(f"/ui/users/{USER}").json()["suggested"] for _ in range(2))
    assert first == again
    assert first[:4] == ["i5", "i2", "i3", "i1"]  # the newest first
    assert set(first) <= set(ITEMS)


def test_candidates_are_suggested_from_what_was_before(client):
    now, then = client.get(f"/ui/users/{USER}").json(), client.get(f"/ui/users/{USER}?at=300").json()
    assert {name: now[name] for name in now if name != "suggested"} == {name: then[name] for name in then if name != "suggested"}
    own = [item for item, ts, _ in sorted(HISTORY, key=lambda one: -one[1]) if ts < 300 and item in ITEMS]
    assert then["suggested"][: len(own)] == own != now["suggested"][: len(own)]
    answer = client.get(f"/ui/users/{USER}?at=now")
    assert (answer.status_code, answer.json()["field"]) == (422, "at")


def test_a_user_without_behaviours_has_an_empty_map_and_candidates(client):
    body = client.get("/ui/users/nobody").json()
    assert (body["total"], body["categories"]) == (0, [])
    assert 0 < len(body["suggested"]) <= CANDIDATES


@pytest.mark.parametrize("bins", ["0", "201", "x", "-1", "", "9999999999"])
def test_bins_that_are_none_are_refused_by_name(client, bins):
    answer = client.get(f"/ui/users/{USER}?bins={bins}")
    assert (answer.status_code, answer.json()["field"]) == (422, "bins")


def test_a_life_of_100_000_is_a_small_answer(client, stored, redis):
    random = np.random.default_rng(3)
    count = 100_000
    row = random.integers(2, 8, count).astype(np.int32)
    category = random.integers(2, 500, count).astype(np.int32)
    cross = np.ones((count, 1), np.uint8)
    life = Behaviours.in_order(row, category, random.integers(1_000_000_000, 1_300_000_000, count), cross)
    BehaviourTree(redis, stored.data, 1).write("long", life)
    answer = client.get("/ui/users/long")
    body = answer.json()
    assert body["total"] == len(life)
    assert len(body["categories"]) == CATEGORIES
    assert sum(sum(row["counts"]) for row in body["categories"]) + sum(body["others"]["counts"]) == len(life)
    assert len(answer.content) < 40_000


def test_counts_are_those_of_looking_at_each_behaviour():
    random = np.random.default_rng(5)
    ts = np.sort(random.integers(1000, 2000, 300))
    category = random.integers(2, 9, 300).astype(np.int32)
    edges = np.array([1000, 1200, 1500, 2000])
    rows, counts = counted(Behaviours(category, category, ts, np.zeros((300, 0), np.uint8)), edges)
    for row, of_one in zip(rows, counts, strict=True):
        for bin_, count in enumerate(of_one):
            assert count == sum(1 for at in range(300) if category[at] == row and edges[bin_] <= ts[at] < edges[bin_ + 1])
    totals = counts.sum(axis=1).tolist()
    assert totals == sorted(totals, reverse=True)
