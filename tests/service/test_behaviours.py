import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import redis.exceptions as faults

import service.behaviours
from service.behaviours import StoreReader, reason
from service.metrics import Metrics
from store import keys
from store.behaviour_tree import BehaviourTree
from store.bundle import Bundle
from store.codec import encode
from store.connection import connect
from store.registry import StoredRegistry
from store.types import Behaviours
from tests.service.readme import table
from tests.service.tiny import USER

FAULTS = {
    faults.ConnectionError: "store_down",
    faults.MaxConnectionsError: "store_down",
    faults.TimeoutError: "store_timeout",
    faults.AuthenticationError: "store_error",
    faults.BusyLoadingError: "store_error",
    faults.ResponseError: "store_error",
    faults.ReadOnlyError: "store_error",
    faults.OutOfMemoryError: "store_error",
    faults.NoPermissionError: "store_error",
    faults.ClusterDownError: "store_error",
    faults.InvalidResponse: "store_error",
    faults.DataError: "store_error",
}


class Failing:
    """A client whose every read fails alike."""

    def __init__(self, error):
        self.error = error

    def hmget(self, key, fields):
        raise self.error

    hgetall = hmget


@contextmanager
def server_that_says(answer):
    """A server that answers every read with these bytes, or with silence; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def talk():
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(0.1)
                    while not ended.is_set():
                        try:
                            if not connection.recv(65536):
                                break
                            connection.sendall(answer)
                        except TimeoutError:
                            continue
                        except OSError:
                            break

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def stored(tiny, store_url):
    """A tiny installation of the test's own, its data in the session's store."""
    tiny.fill(store_url)
    return tiny


@pytest.fixture
def bundle_of(tiny):
    return lambda model: Bundle(tiny.add(model))


def fetch(redis, tiny, bundle, item_ids=("i1",), reader=None, **changes):
    call = replace(tiny.call(bundle, list(item_ids)), **changes)
    return (reader or StoreReader(redis, Metrics())).fetch(call, bundle)


def times(fetched):
    return fetched.behaviours.ts.tolist()


def put(redis, tiny, user, *events):
    """A tree of (row, category, ts) events, rows beyond the registry allowed."""
    row, category, ts = (np.array(column) for column in zip(*events, strict=True))
    cross = np.ones((len(events), 1), np.uint8)
    behaviours = Behaviours(row.astype(np.int32), category.astype(np.int32), ts.astype(np.int64), cross)
    BehaviourTree(redis, tiny.data, 1).write(user, behaviours)


# faults and their words


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_fault_of_the_store_has_its_word(kind):
    assert reason(kind("x")) == FAULTS[kind]


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_a_fault_is_an_answer_without_behaviours_and_no_exception(shared_tiny, request, model, kind):
    bundle = request.getfixturevalue(model)
    fetched = fetch(Failing(kind("x")), shared_tiny, bundle)
    assert fetched.degraded == (FAULTS[kind],)
    assert len(fetched.behaviours) == 0
    assert fetched.behaviours.cross.shape == (0, 1)


def test_the_readme_explains_every_word():
    words = {*FAULTS.values(), "bad_record", "state_missing", "table_stale"}
    assert {word for word, _ in table("word", "meaning")} == words


def test_a_store_that_is_not_there_is_down(shared_tiny, din):
    client = connect("redis://127.0.0.1:1", timeout_s=5)
    assert fetch(client, shared_tiny, din).degraded == ("store_down",)


def test_a_socket_file_that_is_not_there_is_down(shared_tiny, din, tmp_path):
    client = connect(f"unix://{tmp_path}/none.sock", timeout_s=5)
    assert fetch(client, shared_tiny, din).degraded == ("store_down",)


def test_a_store_that_does_not_answer_is_a_timeout(shared_tiny, din):
    with server_that_says(b"") as url:
        client = connect(url, timeout_s=0.05)
        assert fetch(client, shared_tiny, din).degraded == ("store_timeout",)
        client.close()


def test_a_store_that_is_still_loading_answers_an_error(shared_tiny, din):
    with server_that_says(b"-LOADING the dataset is in memory soon\r\n" * 4) as url:
        client = connect(url, timeout_s=5)
        assert fetch(client, shared_tiny, din).degraded == ("store_error",)
        client.close()


def test_a_store_with_too_many_clients_answers_an_error(shared_tiny, din):
    with server_that_says(b"-ERR max number of clients reached\r\n" * 4) as url:
        client = connect(url, timeout_s=5)
        assert fetch(client, shared_tiny, din).degraded == ("store_error",)
        client.close()


def test_a_server_that_is_no_store_is_a_fault_and_no_exception(shared_tiny, din):
    with server_that_says(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4) as url:
        client = connect(url, timeout_s=5)
        assert fetch(client, shared_tiny, din).degraded == ("store_error",)
        client.close()


def test_a_wrong_password_is_an_error(shared_tiny, din, store_url):
    client = connect(store_url.replace("unix://", "unix://nobody:wrong@"), timeout_s=5)
    assert fetch(client, shared_tiny, din).degraded == ("store_error",)
    client.close()


def test_a_tree_that_is_no_hash_is_an_error(redis, stored, bundle_of):
    redis.set(keys.tree(stored.data, "odd"), "no hash")
    assert fetch(redis, stored, bundle_of("din"), user_id="odd").degraded == ("store_error",)


# what is read


@pytest.mark.parametrize(
    ("model", "items", "read"),
    [
        ("din", ["i6"], [100, 200, 300, 400]),
        ("eta", ["i6"], [100, 200, 300, 400]),
        ("sim_hard", ["i1", "i2"], [100, 200, 300, 400]),
    ],
)
def test_the_behaviours_of_a_user_are_read_in_order(redis, stored, bundle_of, model, items, read):
    fetched = fetch(redis, stored, bundle_of(model), items)
    assert times(fetched) == read
    assert fetched.degraded == ()


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
def test_an_unknown_user_has_no_behaviours_and_nothing_is_missing(redis, stored, bundle_of, model):
    fetched = fetch(redis, stored, bundle_of(model), user_id="nobody")
    assert (times(fetched), fetched.degraded) == ([], ())


@pytest.mark.parametrize("model", ["din", "sim_hard", "eta"])
@pytest.mark.parametrize(("before", "read"), [(301, [100, 200, 300]), (300, [100, 200]), (0, [])])
def test_only_behaviours_before_the_time_are_read(redis, stored, bundle_of, model, before, read):
    assert times(fetch(redis, stored, bundle_of(model), ["i1", "i3", "i5"], before=before)) == read


def test_the_request_s_categories_are_read_beyond_the_newest_list(redis, stored, bundle_of):
    """150 behaviours of c2 after one of c1: the newest list (100) does not hold it."""
    put(redis, stored, "long", (2, 2, 5), *((4, 3, 1000 + i) for i in range(150)))
    bundle = bundle_of("sim_hard")
    assert 5 in times(fetch(redis, stored, bundle, ["i1"], user_id="long"))
    assert 5 not in times(fetch(redis, stored, bundle, ["i6"], user_id="long"))


def test_a_long_category_is_read_by_its_newest_and_counted_whole(redis, stored, bundle_of):
    put(redis, stored, "long", *((4, 3, 1000 + i) for i in range(700)))
    fetched = fetch(redis, stored, bundle_of("sim_hard"), ["i3"], user_id="long")
    assert (times(fetched), fetched.older, fetched.degraded) == (list(range(1600, 1700)), 600, ())


def test_a_whole_life_is_read_beyond_the_newest_list(redis, stored, bundle_of):
    put(redis, stored, "long", (2, 2, 5), *((4, 3, 1000 + i) for i in range(150)))
    assert len(times(fetch(redis, stored, bundle_of("eta"), user_id="long"))) == 151


def test_an_earlier_time_reads_what_the_newest_list_lacks(redis, stored, bundle_of):
    put(redis, stored, "long", *((4, 3, 1000 + i) for i in range(150)))
    assert times(fetch(redis, stored, bundle_of("din"), user_id="long", before=1010))[-3:] == [1007, 1008, 1009]


# unreadable values


@pytest.mark.parametrize("model", ["sim_hard", "eta"])
def test_an_unreadable_value_is_left_out_and_told(redis, stored, bundle_of, model):
    redis.hset(keys.tree(stored.data, USER), "2", b"\xb1garbage")
    redis.hdel(keys.tree(stored.data, USER), keys.NEWEST_FIELD)
    fetched = fetch(redis, stored, bundle_of(model), ["i1", "i3", "i5"])
    assert fetched.degraded == ("bad_record",)
    assert times(fetched) == [200, 400]


def test_older_ones_that_are_missing_are_told_where_they_would_be_read(redis, stored, bundle_of):
    put(redis, stored, "long", *((4, 3, 1000 + i) for i in range(700)))
    redis.hdel(keys.tree(stored.data, "long"), "3.older")
    whole, newest = (fetch(redis, stored, bundle_of(model), ["i3"], user_id="long") for model in ("eta", "sim_hard"))
    assert (len(whole.behaviours), whole.degraded) == (700 - 512, ("bad_record",))
    assert (len(newest.behaviours) + newest.older, newest.degraded) == (700, ())


def test_an_altered_byte_is_noticed(redis, stored, bundle_of):
    key = keys.tree(stored.data, USER)
    value = bytearray(redis.hget(key, "2"))
    value[-1] ^= 1
    redis.hset(key, "2", bytes(value))
    assert fetch(redis, stored, bundle_of("eta")).degraded == ("bad_record",)


def test_an_unreadable_newest_list_is_replaced_by_the_life_and_told(redis, stored, bundle_of):
    redis.hset(keys.tree(stored.data, USER), keys.NEWEST_FIELD, b"")
    fetched = fetch(redis, stored, bundle_of("din"))
    assert (times(fetched), fetched.degraded) == ([100, 200, 300, 400], ("bad_record",))


def test_a_field_that_is_no_category_is_left_out_and_told(redis, stored, bundle_of):
    redis.hset(keys.tree(stored.data, USER), "shoes", redis.hget(keys.tree(stored.data, USER), "2"))
    fetched = fetch(redis, stored, bundle_of("eta"))
    assert (times(fetched), fetched.degraded) == ([100, 200, 300, 400], ("bad_record",))


def test_a_field_beyond_every_category_is_left_out_and_told(redis, stored, bundle_of):
    redis.hset(keys.tree(stored.data, USER), "99999999999", redis.hget(keys.tree(stored.data, USER), "2"))
    assert fetch(redis, stored, bundle_of("eta")).degraded == ("bad_record",)


@pytest.mark.parametrize("row", [2**31, 2**32 - 1])
def test_a_row_that_no_registry_gives_is_left_out_and_told(redis, stored, bundle_of, row):
    value = encode(np.array([row], np.int64), np.array([500]), np.ones((1, 1), np.uint8))
    redis.hset(keys.tree(stored.data, USER), "3", value)
    fetched = fetch(redis, stored, bundle_of("eta"))
    assert fetched.degraded == ("bad_record",)
    assert (fetched.behaviours.row >= 0).all()


# the store and the bundle must mean the same


@pytest.mark.parametrize("field", ["registry_id", "schema_version"])
def test_a_store_of_another_registry_or_schema_is_not_used(redis, stored, bundle_of, field, caplog):
    redis.hset(keys.registry_meta(stored.data), field, "another")
    fetched = fetch(redis, stored, bundle_of("din"))
    assert (times(fetched), fetched.degraded) == ([], ("store_error",))
    assert "another" in caplog.text


@pytest.mark.parametrize("field", ["registry_id", "schema_version"])
def test_a_registry_that_cannot_be_read_as_text_is_not_used(redis, stored, bundle_of, field):
    redis.hset(keys.registry_meta(stored.data), field, b"\xff")
    assert fetch(redis, stored, bundle_of("din")).degraded == ("store_error",)


def test_a_store_that_gave_the_bundles_last_row_to_another_item_is_not_used(redis, stored, bundle_of, caplog):
    """Two that added items to the same line of rows without knowing of each other."""
    redis.hset(keys.item_ids(stored.data), str(stored.registry.item_rows - 1), "another item")
    fetched = fetch(redis, stored, bundle_of("din"))
    assert (times(fetched), fetched.degraded) == ([], ("store_error",))
    assert "another item" in caplog.text


def test_a_store_that_lacks_the_bundles_last_row_is_used(redis, stored, bundle_of):
    redis.hdel(keys.item_ids(stored.data), str(stored.registry.item_rows - 1))
    assert fetch(redis, stored, bundle_of("din")).degraded == ()


def test_an_empty_store_is_a_store_of_unknown_users(redis, tiny, bundle_of):
    fetched = fetch(redis, tiny, bundle_of("din"))
    assert (times(fetched), fetched.degraded) == ([], ())


def test_another_registry_is_noticed_while_serving(redis, stored, bundle_of, monkeypatch):
    monkeypatch.setattr(service.behaviours, "CHECK_EVERY_S", -1)
    reader, bundle = StoreReader(redis, Metrics()), bundle_of("din")
    assert fetch(redis, stored, bundle, reader=reader).degraded == ()
    redis.hset(keys.registry_meta(stored.data), "registry_id", "another")
    assert fetch(redis, stored, bundle, reader=reader).degraded == ("store_error",)


def test_the_right_registry_is_used_again_when_it_is_back(redis, stored, bundle_of, monkeypatch):
    monkeypatch.setattr(service.behaviours, "CHECK_EVERY_S", -1)
    reader, bundle = StoreReader(redis, Metrics()), bundle_of("din")
    redis.hset(keys.registry_meta(stored.data), "registry_id", "another")
    fetch(redis, stored, bundle, reader=reader)
    redis.hset(keys.registry_meta(stored.data), "registry_id", stored.registry.registry_id)
    assert times(fetch(redis, stored, bundle, reader=reader)) == [100, 200, 300, 400]


def test_the_registry_is_not_asked_for_with_every_request(redis, stored, bundle_of, monkeypatch):
    monkeypatch.setattr(service.behaviours, "CHECK_EVERY_S", 3600)
    reader, bundle = StoreReader(redis, Metrics()), bundle_of("din")
    asked = []
    monkeypatch.setattr(redis, "hmget", lambda key, fields, hmget=redis.hmget: asked.append(key) or hmget(key, fields))
    for _ in range(3):
        fetch(redis, stored, bundle, reader=reader)
    assert asked.count(keys.registry_meta(stored.data)) == 1


def test_of_a_category_only_what_the_search_can_keep_is_fetched_and_the_rest_is_counted(redis, stored, bundle_of):
    put(redis, stored, USER, *((2, 2, ts) for ts in range(1000, 1350)))
    fetched = fetch(redis, stored, bundle_of("sim_hard"), ["i1"])
    assert times(fetched) == list(range(1250, 1350))
    assert fetched.older == 250


# rows beyond the bundle's registry


def test_an_item_registered_later_is_named_when_explanations_are_asked_for(redis, stored, bundle_of):
    (row,), (category,) = StoredRegistry(redis, stored.data).register(["i99"], ["c9"])
    put(redis, stored, USER, (row, category, 500), (2, 2, 600))
    fetched = fetch(redis, stored, bundle_of("din"), explain=1)
    assert fetched.item_ids == {row: "i99"}


def test_no_names_are_read_unasked(redis, stored, bundle_of):
    (row,), (category,) = StoredRegistry(redis, stored.data).register(["i99"], ["c9"])
    put(redis, stored, USER, (row, category, 500))
    assert fetch(redis, stored, bundle_of("din")).item_ids == {}


def test_a_row_that_the_store_cannot_name_is_left_without_a_name(redis, stored, bundle_of):
    put(redis, stored, USER, (999, 2, 500))
    fetched = fetch(redis, stored, bundle_of("din"), explain=1)
    assert (fetched.item_ids, fetched.degraded) == ({}, ())


def test_a_name_that_cannot_be_read_as_text_is_no_exception(redis, stored, bundle_of):
    put(redis, stored, USER, (999, 2, 500))
    redis.hset(keys.item_ids(stored.data), "999", b"\xff")
    fetch(redis, stored, bundle_of("din"), explain=1)
