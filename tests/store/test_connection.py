import re
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from store.connection import PARAMETERS, check_url, connect, text


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


GOOD = [
    "redis://127.0.0.1",
    "redis://scorer:p%40ss@store.example:6380/2?client_name=scorer",
    "rediss://store.example/?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
    "unix:///run/store.sock?db=1",
    "redis+cluster://a:1,b:2,[::1]:3",
    "redis+cluster://user:word@a/?read_from_replicas=true",
    "rediss+cluster://a:1/?ssl_ca_certs=/etc/ca.pem",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_url_of_each_kind_makes_a_client(url):
    assert check_url(url).scheme in PARAMETERS
    connect(url).close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "starts with redis://"),
        ("127.0.0.1:6379", "starts with redis://"),
        ("http://a:1", "starts with redis://"),
        ("redis:a", "starts with redis://"),
        ("redis://", "no host in ''"),
        ("redis://:secret@:6379", "no host in ':6379'"),
        ("redis://a:port", "no port in 'a:port'"),
        ("redis://a:99999", "no port in"),
        ("redis://a/one", "'one' behind the address"),
        ("redis://a?socket_timeout=30", "no parameter socket_timeout; known are db, "),
        ("redis://a?ssl_ca_certs=x", "no parameter ssl_ca_certs"),
        ("redis://a?db=x", "Invalid value for 'db'"),
        ("rediss://a?ssl_check_hostname=true&ssl_ca=x", "no parameter ssl_ca;"),
        ("unix://", "path of a socket file"),
        ("redis+cluster://", "no host in ''"),
        ("redis+cluster://a:1,", "no host in ''"),
        ("redis+cluster://a:1,b:two", "no port in 'b:two'"),
        ("redis+cluster://a/1", "'1' behind the address"),
        ("redis+cluster://a?db=1", "no parameter db"),
        ("redis+cluster://a?read_from_replicas=maybe", "'maybe', true or false"),
        ("redis+cluster://a?ssl_ca_certs=x", "no parameter ssl_ca_certs"),
    ],
)
def test_a_url_that_is_none_is_refused_with_the_reason(url, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        check_url(url)
    with pytest.raises(ValueError, match=re.escape(why)):
        connect(url)


@pytest.mark.parametrize(
    "url", ["redis://u:secret@a:port", "redis+cluster://u:secret@a:port", "http://u:secret@a", "redis://u:secret@a?x=1"]
)
def test_a_refusal_does_not_say_the_password(url):
    with pytest.raises(ValueError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_a_silent_cluster_is_given_up_after_the_time_limit_of_each_node():
    with listener(socket.socket.fileno) as (one, _), listener(socket.socket.fileno) as (other, _):
        client = connect(f"redis+cluster://{one[8:]},{other[8:]}", timeout_s=0.1)
        started = time.monotonic()
        with pytest.raises(StoreConnectionError, match="connecting to the cluster"):
            client.get("a")
        assert time.monotonic() - started < 0.6
        client.close()
