"""The request log: what is read back is what was asked and answered, and it is in nobody's way."""

import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import service.request_log
from export.data.folder import read
from service.bundles import Bundles
from service.loading import Loading
from service.metrics import Metrics
from service.request import ScoreRequest
from service.request_log import RequestLog
from service.scores import ScoreResponse
from tests.service.serving import served
from tests.service.tiny import ITEMS, VERSION

AT = 1_700_000_000  # 22:13 UTC on a Tuesday
REQUEST = ScoreRequest(user_id="u1", item_ids=["i1", "i6", "nothing"], at=AT, context={"page": "cart"})


@pytest.fixture(scope="module")
def bundles(shared_tiny):
    return Bundles(shared_tiny.bundles, "", "din", Loading("cpu", 1), Metrics())


@pytest.fixture
def folder(tmp_path):
    """Named as the one file of own data is."""
    return tmp_path / "own" / "interactions.parquet"


def response(scores=(0.1, 0.2, 0.3), version=VERSION):
    return ScoreResponse("din", version, np.array(scores, np.float32), [], 1, 4)


def opened(folder, bundles, share=1.0):
    metrics = Metrics()
    return RequestLog(folder, share, bundles, metrics), lambda result: metrics.registry.get_sample_value(
        "ctr_request_log_total", {"result": result}
    )


def test_the_reader_of_own_data_reads_what_was_logged(folder, bundles):
    log, count = opened(folder, bundles)
    log.offer(REQUEST, response(), "r1")
    log.offer(ScoreRequest(user_id="ü 7", item_ids=["i3"], context={"hour": 5, "page": "a new one"}), response([0.5]), "r2")
    log.close()
    rows = read(folder.parent, "own").interactions
    assert rows[["user_id", "item_id"]].values.tolist() == [["u1", "i1"], ["u1", "i6"], ["u1", "nothing"], ["ü 7", "i3"]]
    assert rows["category"].fillna("").tolist() == ["c1", "c3", "", "c2"]
    assert rows["ts"].tolist()[:3] == [AT] * 3
    assert abs(rows["ts"][3] - time.time()) < 60
    assert rows["context_page"].tolist() == ["cart"] * 3 + ["a new one"]
    assert rows["context_hour"].tolist() == ["22"] * 3 + ["5"]  # the clock's where none was given, as the model reads it
    assert rows["context_weekday"].tolist()[:3] == ["1"] * 3
    assert not [name for name in rows if name.startswith("logged_")]
    assert count("logged") == 2


def test_a_row_tells_the_request_the_version_and_its_score(folder, bundles):
    log, _ = opened(folder, bundles)
    log.offer(REQUEST, response(), "r1")
    log.close()
    (path,) = folder.iterdir()
    rows = pq.read_table(path).to_pylist()
    assert [row["logged_score"] for row in rows] == pytest.approx([0.1, 0.2, 0.3])
    assert {(row["logged_request_id"], row["logged_model"], row["logged_version"]) for row in rows} == {("r1", "din", VERSION)}


def test_a_file_has_its_name_when_it_is_whole(folder, bundles, monkeypatch):
    seen, write = [], pq.write_table

    def noted(table, path, **named):
        write(table, path, **named)
        seen.append([found.name[0] for found in folder.iterdir()])

    monkeypatch.setattr(service.request_log.pq, "write_table", noted)
    log, _ = opened(folder, bundles)
    log.offer(REQUEST, response(), "r1")
    log.close()
    assert seen == [["."]]  # readers of folders pass by such names
    assert [path.name[:9] for path in folder.iterdir()] == ["requests-"]


def test_a_share_of_the_requests_is_logged(folder, bundles, monkeypatch):
    monkeypatch.setattr(service.request_log.random, "random", iter([0.0, 0.24, 0.25, 0.99]).__next__)
    log, count = opened(folder, bundles, share=0.25)
    for _ in range(4):
        log.offer(REQUEST, response(), "r")
    log.close()
    assert count("logged") == 2


def test_what_cannot_be_written_in_time_is_dropped_and_counted_not_waited_for(folder, bundles, monkeypatch):
    monkeypatch.setattr(service.request_log, "WAITING", 5)
    monkeypatch.setattr(service.request_log, "ROWS", 1)
    hold = threading.Event()
    write = pq.write_table
    monkeypatch.setattr(service.request_log.pq, "write_table", lambda *args, **named: hold.wait(30) and write(*args, **named))
    log, count = opened(folder, bundles)
    began = time.monotonic()
    for _ in range(50):
        log.offer(REQUEST, response(), "r")
    assert time.monotonic() - began < 5  # it waits for nobody
    hold.set()
    log.close()
    assert count("dropped") >= 43
    assert count("logged") + count("dropped") == 50


def test_a_file_ends_with_so_many_rows_or_after_so_long(folder, bundles, monkeypatch):
    monkeypatch.setattr(service.request_log, "ROWS", 6)
    log, _ = opened(folder, bundles)
    for _ in range(4):
        log.offer(REQUEST, response(), "r")
    log.close()
    assert sorted(pq.read_table(path).num_rows for path in folder.iterdir()) == [6, 6]
    monkeypatch.setattr(service.request_log, "SECONDS", 0.05)
    log, count = opened(folder, bundles)
    log.offer(REQUEST, response(), "r")
    end = time.monotonic() + 30
    while not count("logged") and time.monotonic() < end:
        time.sleep(0.01)
    assert count("logged") == 1
    log.close()


def test_a_disk_that_is_full_is_counted_and_scores_go_on(folder, bundles, monkeypatch):
    def full(_, path, **__):
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    log, count = opened(folder, bundles)
    with monkeypatch.context() as patched:
        patched.setattr(service.request_log.pq, "write_table", full)
        log.offer(REQUEST, response(), "r1")
        log.close()
    assert count("failed") == 1
    assert list(folder.iterdir()) == []


def test_a_version_that_went_away_is_left_out(folder, bundles):
    log, count = opened(folder, bundles)
    log.offer(REQUEST, response(version="20000101T000000Z"), "r1")
    log.offer(REQUEST, response(), "r2")
    log.close()
    assert (count("dropped"), count("logged")) == (1, 1)


def test_the_scorer_logs_calls_of_both_protocols(shared_tiny, store_url, folder):
    tensors = [
        {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data}
        for name, data in (("user_id", ["u1"]), ("item_ids", list(ITEMS)))
    ]
    with served(shared_tiny.bundles, store_url, request_log=str(folder), request_log_share=1) as (client, _):
        one = client.post("/score", json={"user_id": "u1", "item_ids": list(ITEMS), "model": "din", "request_id": "r1"}).json()
        client.post("/v2/models/din/infer", json={"id": "r2", "inputs": tensors})
        client.post("/score", json={"user_id": "u1", "item_ids": []})
    rows = pq.read_table(folder).to_pylist()
    assert [row["logged_request_id"] for row in rows] == ["r1"] * 6 + ["r2"] * 6
    assert [row["logged_score"] for row in rows[:6]] == pytest.approx(one["scores"])


def test_without_a_folder_nothing_is_logged(shared_tiny):
    with served(shared_tiny.bundles, model="din") as (client, app):
        assert client.post("/score", json={"user_id": "u1", "item_ids": ["i1"]}).status_code == 200
        assert app.state.service.request_log is None
