import re
import socket
import time

import pytest

import service.pipeline
from service.errors import DeadlineExceeded
from service.metrics import STAGES, ConsumerMetrics, Metrics, StageTimer
from tests.service.readme import table
from tests.service.serving import served, until
from tests.service.tiny import VERSION

TIMING = re.compile(r"(\w+);dur=(\d+\.\d+)")


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves by hand: clock(seconds)."""
    now = [100.0]
    monkeypatch.setattr("service.metrics.time.perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def of(header):
    return {name: float(value) for name, value in TIMING.findall(header)}


def test_the_stages_are_the_steps_of_the_path_in_order():
    assert STAGES == ("queue", "request", "behaviours", "search", "attend", "scores")


def test_each_stage_ends_where_the_next_begins(clock):
    timer = StageTimer()
    for stage, seconds in zip(STAGES, (1, 2, 3, 4, 5, 6), strict=True):
        if stage != "queue":
            timer.enter(stage)
        clock(seconds)
    assert timer.finish() == 21
    assert timer.seconds == dict(zip(STAGES, (1, 2, 3, 4, 5, 6), strict=True))


def test_a_stage_that_was_never_entered_took_no_time(clock):
    timer = StageTimer()
    timer.enter("request")
    clock(1)
    timer.finish()
    assert timer.seconds["attend"] == 0


def test_the_header_names_the_six_stages_and_their_sum(clock):
    timer = StageTimer()
    timer.enter("request")
    clock(0.0015)
    timer.enter("behaviours")
    clock(0.25)
    timer.finish()
    assert timer.header() == (
        "queue;dur=0.000, request;dur=1.500, behaviours;dur=250.000, search;dur=0.000, attend;dur=0.000, scores;dur=0.000, "
        "total;dur=251.500"
    )


def test_the_time_that_is_up_names_the_stage_and_both_numbers(clock):
    timer = StageTimer()
    timer.allow(30)
    timer.enter("request")
    timer.enter("behaviours")
    clock(0.045)
    with pytest.raises(DeadlineExceeded) as caught:
        timer.enter("search")
    assert caught.value.field == "behaviours"
    assert caught.value.detail.startswith("behaviours: 45.0 ms")
    assert "limit 30 ms" in caught.value.detail


def test_a_request_that_waited_too_long_names_the_queue(clock):
    timer = StageTimer()
    timer.allow(30)
    clock(0.031)
    with pytest.raises(DeadlineExceeded, match=r"^queue: "):
        timer.enter("request")


def test_a_limit_that_is_known_late_names_the_stage_in_which_the_time_ended(clock):
    timer = StageTimer()
    clock(0.03)
    timer.enter("request")
    clock(0.005)
    timer.allow(20)
    with pytest.raises(DeadlineExceeded, match=r"^queue: 35\.0 ms since arrival, limit 20 ms"):
        timer.enter("behaviours")


def test_time_that_is_not_up_is_no_error(clock):
    timer = StageTimer()
    timer.allow(30)
    clock(0.029)
    timer.enter("request")
    assert timer.stage == "request"


def test_a_timeout_shortens_the_time(clock):
    timer = StageTimer()
    timer.allow(250)
    timer.allow(10)
    clock(0.02)
    with pytest.raises(DeadlineExceeded, match="limit 10 ms"):
        timer.enter("request")


def test_a_timeout_never_lengthens_the_time(clock):
    timer = StageTimer()
    timer.allow(250)
    timer.allow(60_000)
    clock(0.3)
    with pytest.raises(DeadlineExceeded, match="limit 250 ms"):
        timer.enter("request")


def test_without_a_limit_the_time_is_never_up(clock):
    timer = StageTimer()
    clock(1e6)
    timer.enter("request")


# over HTTP


@pytest.fixture(scope="module")
def slow(shared_tiny, store_url):
    """A scorer with a limit of 300 ms, whose search can be held up: hold(seconds). Its store answers."""
    wait = [0.0]
    search = service.pipeline.search

    def held_up(*args):
        time.sleep(wait[0])
        return search(*args)

    def hold(seconds):
        wait[0] = seconds

    with pytest.MonkeyPatch.context() as patch, served(shared_tiny.bundles, store_url, timeout_ms=300) as (client, _):
        patch.setattr(service.pipeline, "search", held_up)
        yield client, hold


def scored(client, **fields):
    return client.post("/score", json={"user_id": "u1", "item_ids": ["i1"], "model": "din"} | fields)


def test_past_the_deadline_the_answer_is_504_and_names_the_stage(slow):
    client, hold = slow
    hold(0.4)
    response = scored(client)
    assert response.status_code == 504
    assert response.json()["field"] == "search"
    assert response.json()["detail"].startswith("search: ")
    assert "limit 300 ms" in response.json()["detail"]


def test_a_fault_of_the_store_is_never_a_504(slow, shared_tiny):
    """The store's time is not the caller's error: the answer comes, degraded."""
    _, hold = slow
    hold(0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never answers
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with served(shared_tiny.bundles, url, store_timeout_ms=160) as (client, _):
            response = scored(client, timeout_ms=80)
    assert (response.status_code, response.json()["degraded"]) == (200, ["store_timeout"])


def test_timeout_ms_shortens_the_servers_limit(slow):
    client, hold = slow
    hold(0.1)
    assert scored(client).status_code == 200
    response = scored(client, timeout_ms=50)
    assert response.status_code == 504
    assert "limit 50 ms" in response.json()["detail"]


def test_timeout_ms_does_not_lengthen_the_servers_limit(slow):
    client, hold = slow
    hold(0.4)
    assert scored(client, timeout_ms=60_000).status_code == 504


def test_a_504_is_counted_as_rejected(slow):
    client, hold = slow
    hold(0.4)
    count = sample(client, "ctr_rejected_total", reason="deadline_exceeded")
    scored(client)
    assert sample(client, "ctr_rejected_total", reason="deadline_exceeded") == count + 1


def test_a_call_that_was_too_late_has_its_stage_times(slow):
    """Where the time of calls goes that are answered 504 is what somebody looks for; a refused one had none."""
    client, hold = slow
    scored(client)  # what comes once is not part of it
    before = samples(client)
    hold(0.4)
    assert scored(client).status_code == 504
    hold(0)
    assert scored(client, at=-1).status_code == 422
    found = samples(client)
    for stage in STAGES:
        name = f'ctr_stage_duration_seconds_count{{stage="{stage}"}}'
        assert found[name] == before[name] + 1, stage
    name = 'ctr_stage_duration_seconds_sum{stage="search"}'
    assert found[name] - before[name] >= 0.4


def samples(client):
    """Every sample of /metrics by name and labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def sample(client, name, **labels):
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return samples(client).get(f"{name}{{{inner}}}" if labels else name, 0.0)


@pytest.fixture
def fresh(shared_tiny, redis, store_url):
    """A scorer that has answered nothing yet, over a store that it can read."""
    with served(shared_tiny.bundles, store_url) as (client, _):
        yield client


def test_one_good_and_one_bad_call_are_counted_exactly(fresh):
    assert scored(fresh, item_ids=["i1", "new", "i2"]).status_code == 200
    assert scored(fresh, at=-1).status_code == 422
    found = samples(fresh)
    calls = {name: value for name, value in found.items() if name.startswith("ctr_requests_total") and "/score" in name}
    assert calls == {
        'ctr_requests_total{code="200",model="din",route="/score",version="20260131T120000Z"}': 1,
        'ctr_requests_total{code="422",model="",route="/score",version=""}': 1,
    }
    for code in ("2xx", "4xx"):  # a refusal must not count as a fast answer
        assert found[f'ctr_request_duration_seconds_count{{code="{code}",route="/score"}}'] == 1
    assert found["ctr_candidates_per_request_count"] == 1
    assert found["ctr_candidates_per_request_sum"] == 3
    assert found["ctr_unknown_items_total"] == 1
    assert found["ctr_behaviours_per_request_count"] == 1
    assert found["ctr_inflight_requests"] == 0
    for stage in STAGES:
        assert found[f'ctr_stage_duration_seconds_count{{stage="{stage}"}}'] == 1, stage


def test_the_stages_of_the_histogram_are_those_of_the_header(fresh):
    timing = of(scored(fresh).headers["server-timing"])
    found = samples(fresh)
    for stage in STAGES:
        assert found[f'ctr_stage_duration_seconds_sum{{stage="{stage}"}}'] * 1000 == pytest.approx(timing[stage], abs=0.001)


def test_a_degraded_answer_is_counted_with_its_reason(shared_tiny):
    with served(shared_tiny.bundles) as (client, _):
        assert scored(client).json()["degraded"] == ["store_down"]
        assert sample(client, "ctr_degraded_total", reason="store_down") == 1


def test_the_store_is_watched(shared_tiny, fresh):
    scored(fresh)
    found = samples(fresh)
    assert (found["ctr_store_roundtrip_seconds_count"], found["ctr_breaker_state"]) == (1, 0)
    assert found['ctr_store_errors_total{kind="store_down"}'] == 0
    assert found["ctr_model_load_seconds_count"] == 3
    with served(shared_tiny.bundles) as (
        client,
        _,
    ):  # nobody listens: the breaker opens with the first call, the next asks nobody
        for _ in range(2):
            scored(client)
        found = samples(client)
    assert (found["ctr_store_roundtrip_seconds_count"], found["ctr_breaker_state"]) == (1, 1)
    assert found['ctr_store_errors_total{kind="store_down"}'] == 1


def test_what_a_call_leaves_is_counted_in_order_and_gauges_follow():
    metrics, seen, taken = Metrics(), [], [3]
    metrics.follow(metrics.in_flight, lambda: taken[0])
    for i in range(5):
        metrics.later(seen.append, i)
    assert seen == []
    assert metrics.count(at_most=2)
    assert seen == [0, 1]
    taken[0] = 7
    assert not metrics.count()
    assert seen == [0, 1, 2, 3, 4]
    assert metrics.registry.get_sample_value("ctr_inflight_requests") == 7


def test_what_calls_leave_does_not_wait_for_somebody_to_look(shared_tiny):
    """One process of several is scraped for all: the others count without."""
    with served(shared_tiny.bundles) as (client, app):
        scored(client)
        counted = app.state.service.metrics.registry.get_sample_value
        until(lambda: counted("ctr_behaviours_per_request_count") == 1, limit_s=5)
        until(lambda: counted("ctr_breaker_state") == 1, limit_s=5)


def test_the_models_served_are_listed(fresh):
    found = samples(fresh)
    assert found['ctr_model_info{model="din",provider="cpu",version="20260131T120000Z"}'] == 1
    assert found['ctr_model_load_total{result="ok"}'] == 3


def test_the_age_from_which_tables_are_stale_is_said(shared_tiny, fresh):
    assert sample(fresh, "ctr_table_max_age_seconds") == 0
    with served(shared_tiny.bundles, table_max_age_s=900) as (client, _):
        assert sample(client, "ctr_table_max_age_seconds") == 900


def test_what_may_be_counted_is_there_from_the_start(fresh):
    """A series that begins with its first refusal has no increase that an alert could see."""
    found = samples(fresh)
    for reason in ("store_down", "table_stale"):
        assert found[f'ctr_degraded_total{{reason="{reason}"}}'] == 0
    assert found['ctr_rejected_total{reason="no_free_slot"}'] == found['ctr_model_load_total{result="refused"}'] == 0


def test_two_scorers_of_one_process_count_apart(shared_tiny):
    with served(shared_tiny.bundles) as (one, _), served(shared_tiny.bundles) as (other, _):
        scored(one)
        assert sample(one, "ctr_requests_total", code="200", model="din", route="/score", version=VERSION) == 1
        assert sample(other, "ctr_requests_total", code="200", model="din", route="/score", version=VERSION) == 0


def test_a_caller_that_hangs_up_is_no_error_of_ours(fresh):
    with socket.create_connection((fresh.base_url.host, fresh.base_url.port)) as caller:
        caller.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        until(lambda: sample(fresh, "ctr_inflight_requests") == 1)
    until(lambda: sample(fresh, "ctr_inflight_requests") == 0)
    assert [name for name in samples(fresh) if 'code="500"' in name] == []


# documentation


def test_the_readme_lists_every_metric_with_its_type():
    suffix = {"counter": "_total"}
    families = [family for metrics in (Metrics(), ConsumerMetrics()) for family in metrics.registry.collect()]
    made = {(family.name + suffix.get(family.type, ""), family.type) for family in families}
    assert {(name, kind) for name, kind, _ in table("name", "type", "what")} == made
