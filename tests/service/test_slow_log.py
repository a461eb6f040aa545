import io
import json

import pytest

from service.finished import Finished
from service.metrics import STAGES
from service.request import ScoreRequest
from service.slow_log import LINES_PER_S, SlowLog
from tests.service.serving import served

MS = {"queue": 1, "request": 2, "behaviours": 3, "search": 4, "attend": 50, "scores": 5}


def call(status=200, error="", total_ms=65, user_id="u1"):
    asked = ScoreRequest(user_id=user_id, item_ids=["i1", "i2"], model="din")
    stages = {stage: ms / 1000 * total_ms / 65 for stage, ms in MS.items()}
    return Finished("/score", {}, status, error, "r1", asked, None, 1_700_000_000.5, stages)


@pytest.fixture
def out():
    return io.StringIO()


def lines(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_slow_call_is_one_line_of_json_with_the_time_of_every_stage(out):
    SlowLog(60, out)(call())
    (line,) = lines(out)
    assert line["ms"] == MS | {"total": 65}
    assert (line["what"], line["status"], line["candidates"], line["request_id"]) == ("slow", 200, 2, "r1")
    assert line["time"] == "2023-11-14T22:13:20.500+00:00"


@pytest.mark.parametrize(("limit", "logged"), [(64, 1), (66, 0), (0, 0)])
def test_slow_is_what_the_setting_says_and_0_is_never(out, limit, logged):
    SlowLog(limit, out)(call())
    assert len(lines(out)) == logged


@pytest.mark.parametrize(
    ("status", "error", "logged"),
    [(504, "deadline exceeded", 1), (500, "internal error", 1), (429, "no free slot", 0), (422, "x", 0)],
)
def test_a_failed_call_is_logged_however_fast_and_the_callers_errors_are_not(out, status, error, logged):
    SlowLog(1000, out)(call(status, error))
    assert [(line["what"], line["error"]) for line in lines(out)] == [("failed", error)] * logged


def test_users_are_told_apart_and_not_named(out):
    log = SlowLog(60, out)
    for user in ("u1", "u2", "u1"):
        log(call(user_id=user))
    one, other, again = (line["user"] for line in lines(out))
    assert one == again != other
    assert '"u1"' not in out.getvalue()


def test_nobody_can_compute_a_users_hash_for_another_process(out):
    SlowLog(60, out)(call())
    SlowLog(60, out)(call())
    one, other = (line["user"] for line in lines(out))
    assert one != other


def test_what_goes_beyond_the_limit_a_second_is_counted_in_the_next_line(out, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("service.slow_log.time.monotonic", lambda: now[0])
    log = SlowLog(60, out)
    for _ in range(LINES_PER_S + 7):
        log(call())
    now[0] += 1
    log(call())
    assert [line["left_out"] for line in lines(out)] == [0] * LINES_PER_S + [7]


def test_a_line_that_cannot_be_written_is_no_fault_of_the_call():
    class Broken(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    SlowLog(60, Broken())(call())


def test_a_scorer_logs_its_slow_calls_with_what_they_asked_and_got(shared_tiny, store_url, capsys):
    with served(shared_tiny.bundles, store_url, slow_ms=0.001) as (client, _):
        asked = {"user_id": "somebody", "item_ids": ["i1", "i2"], "model": "eta", "request_id": "r7"}
        assert client.post("/score", json=asked).status_code == 200
        assert client.post("/score", json=asked | {"timeout_ms": 0.001}).status_code == 504
        infer = {
            "inputs": [{"name": name, "shape": [1], "datatype": "BYTES", "data": ["i1"]} for name in ("user_id", "item_ids")]
        }
        assert client.post("/v2/models/din/infer", json=infer).status_code == 200
    slow, failed, of_v2 = map(json.loads, capsys.readouterr().out.splitlines())
    assert (slow["what"], slow["model"], slow["request_id"], slow["candidates"]) == ("slow", "eta", "r7", 2)
    assert list(slow["ms"]) == [*STAGES, "total"]
    assert slow["ms"]["total"] == pytest.approx(sum(slow["ms"][stage] for stage in STAGES), abs=0.01)
    assert (failed["what"], failed["error"], failed["status"]) == ("failed", "deadline exceeded", 504)
    assert (of_v2["route"], of_v2["model"]) == ("/v2/models/{model}/infer", "din")
    assert slow["user"] == failed["user"] != "somebody"
