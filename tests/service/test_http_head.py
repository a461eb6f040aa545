"""What comes before a body has limits: its bytes, and the time it takes."""

import json
import re
import socket
import time
from contextlib import suppress

import pytest

import service.http_head
from service.http_head import MAX_BYTES
from tests.service.serving import served
from tests.service.tiny import ITEMS

BODY = json.dumps({"user_id": "u1", "item_ids": list(ITEMS), "model": "din"}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def running(shared_tiny):
    with served(shared_tiny.bundles) as (client, _):
        yield client


def exchanged(client, *pieces):
    """What a raw connection answers to some bytes, sent one after the other."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break  # refused meanwhile
        head, _, body = received(connection).partition(b"\r\n\r\n")
        return int(head[9:12]), json.loads(body)


def received(connection):
    """What comes until the connection ends."""
    whole = b""
    with suppress(ConnectionResetError):  # what we sent too much was thrown away
        while piece := connection.recv(65_536):
            whole += piece
    return whole


@pytest.mark.parametrize(
    "pieces",
    [
        [LIVE + b"x: " + b"y" * MAX_BYTES + b"\r\n\r\n"],
        [LIVE + b"x: y\r\n" * (MAX_BYTES // 5) + b"\r\n"],
        [b"GET /" + b"a" * MAX_BYTES + b" HTTP/1.1\r\n\r\n"],
        [LIVE, *[b"x: " + b"y" * 1_000 + b"\r\n"] * 20],
        [LIVE + b"x: ", *[b"y" * 4_000] * 10],
        [b"GET /", *[b"a" * 4_000] * 10],
    ],
    ids=["one header", "many headers", "a path", "headers in pieces", "a header that does not end", "a path that does not end"],
)
def test_a_head_that_is_too_long_is_431(running, pieces):
    status, problem = exchanged(running, *pieces)
    assert (status, problem["status"], problem["detail"]) == (431, 431, f"head: more than {MAX_BYTES} bytes, limit {MAX_BYTES}")


def test_a_head_within_the_limit_is_read_and_the_next_one_counts_anew(running):
    for _ in range(3):
        assert running.get("/v2/health/live", headers={"x": "y" * (MAX_BYTES - 500)}).status_code == 200


def test_a_long_body_is_no_long_head(running):
    head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    body = BODY + b" " * (3 * MAX_BYTES)
    assert exchanged(running, head + f"content-length: {len(body)}\r\n\r\n".encode(), body)[0] == 200


POST = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"


def statuses(client, *pieces):
    """Of all answers on one connection, in their order."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)  # so each is a read of its own
        return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", received(connection))]


def test_a_head_that_begins_behind_a_body_counts_from_where_it_begins(running):
    body = BODY + b" " * 20_000
    head = POST % len(body)
    last = head + b"connection: close\r\n\r\n"
    assert statuses(running, head + b"\r\n" + body + last[:30], last[30:] + body) == [200, 200]
    pieces = (head, b"\r\n" + body + last[:30], last[30:] + body)
    assert statuses(running, *pieces) == [200, 200]
    long = LIVE + b"x: " + b"y" * 500
    assert statuses(running, head + b"\r\n" + body + long, *[b"y" * 6_000] * 3) == [200, 431]


def test_a_refusal_comes_after_the_answers_before_it(running):
    whole = POST % len(BODY) + b"\r\n" + BODY
    for bad, status in ((LIVE + b"x: " + b"y" * MAX_BYTES + b"\r\n\r\n", 431), (b"GET\r\n\r\n", 400)):
        assert statuses(running, whole + whole + bad) == [200, 200, status]


def test_a_body_that_cannot_be_read_is_a_400_at_once(running):
    head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    assert statuses(running, head + b"no length\r\n")[0] == 400


def test_what_is_no_http_is_a_400(running):
    status, problem = exchanged(running, b"\x16\x03\x01 hello\r\n\r\n")
    assert (status, problem["status"], problem["title"]) == (400, 400, "bad request")


@pytest.mark.parametrize("stated", ["-1", "1e3", "0x10", "9" * 30, "5, 5", "٣"])
def test_a_length_that_is_none_is_a_400(running, stated):
    head = f"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {stated}\r\n\r\n"
    assert exchanged(running, head.encode(), BODY)[0] == 400


@pytest.mark.parametrize("length", [10**7, 2**63 - 1])
def test_a_length_beyond_the_limit_is_refused_before_the_body(running, length):
    head = f"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
    assert exchanged(running, f"{head}connection: close\r\n\r\n".encode())[0] == 413


def test_a_head_that_takes_too_long_is_408(running, monkeypatch):
    monkeypatch.setattr(service.http_head, "MAX_S", 0.1)
    status, problem = exchanged(running, LIVE + b"x: ")
    assert (status, problem["detail"]) == (408, "head: not whole after 0.1 s")


def test_a_connection_that_says_nothing_is_closed(running, monkeypatch):
    monkeypatch.setattr(service.http_head, "SILENT_S", 0.1)
    with socket.create_connection((running.base_url.host, running.base_url.port), timeout=20) as connection:
        assert connection.recv(1) == b""


def test_a_second_request_may_come_later(running, monkeypatch):
    monkeypatch.setattr(service.http_head, "MAX_S", 0.1)
    monkeypatch.setattr(service.http_head, "SILENT_S", 0.1)
    with socket.create_connection((running.base_url.host, running.base_url.port), timeout=20) as connection:
        connection.sendall(LIVE + b"\r\n")
        time.sleep(0.3)
        connection.sendall(LIVE + b"connection: close\r\n\r\n")
        assert received(connection).count(b"HTTP/1.1 200 OK") == 2
