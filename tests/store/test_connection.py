import socket
import threading
from contextlib import contextmanager

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from store.connection import connect, text


@contextmanager
def listener(on_connection):
    """A local server that does `on_connection(socket)` to each caller; yields its URL and the connections so far."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                taken.append(connection)
                on_connection(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.getsockname()[1]}", taken
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def test_replies_are_bytes(redis, data_name):
    redis.set(data_name, "é")
    assert redis.get(data_name) == "é".encode()
    redis.delete(data_name)


def test_a_failed_call_is_not_tried_again():
    with listener(socket.socket.close) as (url, taken):
        client = connect(url, timeout_s=5)
        with pytest.raises(StoreConnectionError):
            client.ping()
        client.close()
    assert len(taken) == 1


def test_a_silent_store_is_given_up_after_the_time_limit():
    with listener(socket.socket.fileno) as (url, taken):
        client = connect(url, timeout_s=0.05)
        with pytest.raises(StoreTimeoutError):
            client.ping()
        client.close()
    assert len(taken) == 1


def test_connecting_and_reading_have_the_same_limit():
    client = connect("redis://127.0.0.1:1", timeout_s=0.05)
    limits = client.get_connection_kwargs()
    client.close()
    assert (limits["socket_timeout"], limits["socket_connect_timeout"]) == (0.05, 0.05)


def test_nothing_is_opened_before_the_first_call():
    connect("redis://127.0.0.1:1").close()


def test_one_client_serves_many_threads(redis, data_name):
    threads = [threading.Thread(target=redis.incr, args=(data_name,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redis.getdel(data_name) == b"8"


def test_a_reply_is_read_as_utf_8():
    assert text("é".encode()) == text("é") == "é"
