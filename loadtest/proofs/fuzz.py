"""Requests that are none: bytes, headers, lengths and bodies made to go wrong. No answer is a 5xx, and the scorer lives."""

import gzip
import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from rich.console import Console

from loadtest.proofs.system import FUZZED, Row, System

AIMED_AT = b"THE-MODEL"  # in paths: a model that there is
PATHS = (
    "/score", "/events", "/v2/models/THE-MODEL/infer", "/v2/models/THE-MODEL", "/v2/repository/index", "/users/x/behaviours",
    "/users/x/behaviours?limit=-1&after=1-1", "/v2", "/metrics", "/ui", "/ui/users/x?bins=3", "/ui/files/../../settings.py",
    "/docs", "/openapi.json", "/admin/models/THE-MODEL/labels", "/%00", "/" + "a" * 9_000, "*", "", "http://other/score",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "G\0T", "")
ALLOWED = {503, 504}  # that the contract names
BOMB = gzip.compress(b"0" * 10_000_000)
SAY_EVERY_S = 20.0
# Without an answer: the scorer closes the connection; it says nothing for half a second; nobody waits for it.
CLOSED, SILENT, HUNG_UP = "closed", "silent", "hung up on"
SILENT_SHARE = 0.01  # of the cases at most: it waits for the rest of what is too short

console = Console(stderr=True)


@dataclass
class Fuzzed:
    """What came back."""

    cases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # by the first digit of the status, or `CLOSED`, `SILENT`, `HUNG_UP`
    bad: list[str] = field(default_factory=list)
    alive: str = ""  # what a good request is answered afterwards


def prove_fuzz(system: System, seconds: float) -> list[Row]:
    """Raw sockets for so long."""
    return fuzz_rows(fuzz(system.port, system.requests[0], seconds, FUZZED), seconds)


def fuzz(port: int, good: bytes, seconds: float, model: str, seed: int = 1) -> Fuzzed:
    """Send what should be refused for so long, then the body of a good request."""
    rng, seen = random.Random(seed), Fuzzed()
    started = said = time.perf_counter()
    while (now := time.perf_counter()) - started < seconds:
        if now - said > SAY_EVERY_S:
            said = now
            console.print(f"fuzz: {now - started:.0f} s, {seen.cases} cases, {len(seen.bad)} bad", highlight=False)
        sent = rng.choice(CASES)(rng).replace(AIMED_AT, model.encode())
        try:
            status = _answer(port, sent, rng)
        except ConnectionRefusedError:
            seen.bad.append(f"nobody listens any more: {sent[:200]!r}")
            return seen
        seen.kinds[status[:1] + "xx" if status.isdigit() else status] += 1
        seen.cases += 1
        if status.startswith("5") and int(status) not in ALLOWED:
            seen.bad.append(f"{status}: {sent[:200]!r}")
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/score", good, {"content-type": "application/json"})
        seen.alive = str(connection.getresponse().status)
    return seen


def fuzz_rows(seen: Fuzzed, seconds: float) -> list[Row]:
    """Verdicts."""
    answers = ", ".join(f"{kind} {count}" for kind, count in sorted(seen.kinds.items()))
    first = f": {seen.bad[0]}" if seen.bad else ""
    silent = seen.kinds[SILENT] / max(seen.cases, 1)
    return [
        Row("raw sockets: answers of 5xx but 503 and 504", f"{len(seen.bad)} ({answers}){first}", "0", seen.cases, seconds,
            not seen.bad),
        Row("raw sockets: without an answer for half a second", f"{silent:.1%}", f"{SILENT_SHARE:.0%}", seen.cases, seconds,
            silent <= SILENT_SHARE),
        Row("raw sockets: the scorer scores afterwards", seen.alive, "200", 1, 0, seen.alive == "200"),
    ]  # fmt: skip


def _answer(port: int, sent: bytes, rng: random.Random) -> str:
    """The status of what comes back, or why there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(0.5)
        try:
            at = 0
            while at < len(sent):  # in pieces, sometimes
                size = len(sent) if rng.random() < 0.8 else rng.randint(1, 64)
                connection.sendall(sent[at : at + size])
                at += size
            if rng.random() < 0.05:
                return HUNG_UP
            head = connection.recv(4_096)
        except TimeoutError:
            return SILENT
        except OSError:
            return CLOSED
    return head[9:12].decode("latin-1") if head.startswith(b"HTTP/1.1 ") else CLOSED


def _request(method: str, path: str, body: bytes, media: str, *headers: str, length: str | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-type: {media}", *headers]
    lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def _body(rng: random.Random) -> bytes:
    """Something like a body."""
    good = {"user_id": "1000-1", "item_ids": ["i1", "i2"]}
    value: object = rng.choice(
        [None, True, -1, 2**63, 2**64, 1e308, "", "\0", "\ud800", "x" * 200, [], [[]], {}, {"a": 1}, "NaN"]
    )
    field = rng.choice(
        ["user_id", "item_ids", "model", "timeout_ms", "at", "context", "explain", "request_id", "inputs", "events"]
    )
    text = json.dumps(good | {field: value})
    bodies: list[Callable[[], bytes]] = [
        lambda: text.encode("utf-8", "surrogatepass"),
        lambda: text[: rng.randint(0, len(text))].encode("utf-8", "replace"),
        lambda: b"[" * rng.randint(1, 200_000),
        lambda: b'{"a":' * rng.randint(1, 50_000),
        lambda: rng.randbytes(rng.randint(0, 300)),
        lambda: b'{"user_id": 1, "user_id": 2, "item_ids": ["a"], "item_ids": 7}',
        lambda: json.dumps(good | {"item_ids": ["i"] * rng.choice([0, 1_000, 1_001, 20_000])}).encode(),
        lambda: b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass"),
    ]
    return rng.choice(bodies)()


def _bodies(rng: random.Random) -> bytes:
    media = rng.choice(["application/json", "application/json; charset=utf-16", "text/plain", "application/octet-stream", ""])
    return _request("POST", rng.choice(PATHS), _body(rng), media)


def _tensors(rng: random.Random) -> bytes:
    head = json.dumps({"inputs": [
        {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["u"]},
        {"name": "item_ids", "shape": [rng.choice([1, 2, -1, 2**40])], "datatype": rng.choice(["BYTES", "INT64", "FP32"]),
         "parameters": {"binary_data_size": rng.choice([0, 8, 16, -1, 10**9])}},
    ]}).encode()  # fmt: skip
    length = rng.choice([len(head), 0, -1, 10**12, "x"])
    body = head + rng.randbytes(rng.choice([0, 8, 16]))
    return _request(
        "POST", "/v2/models/THE-MODEL/infer", body, "application/octet-stream", f"inference-header-content-length: {length}"
    )


def _methods(rng: random.Random) -> bytes:
    return _request(rng.choice(METHODS), rng.choice(PATHS), _body(rng) if rng.random() < 0.5 else b"", "application/json")


def _headers(rng: random.Random) -> bytes:
    odd = rng.choice([
        "x: " + "y" * 100_000, "transfer-encoding: chunked", "content-encoding: gzip", "expect: 100-continue",
        "x-request-id: \x01",
        "authorization: Bearer \xff", "connection: upgrade", "upgrade: websocket", "content-length: 5", ": nothing", "no colon",
        "x-request-id: " + "z" * 129, "host: \0", "content-type: application/json",
    ])  # fmt: skip
    many = [odd] * rng.choice([1, 1, 1, 2_000])
    return _request("POST", "/score", _body(rng), "application/json", *many)


def _lengths(rng: random.Random) -> bytes:
    length = rng.choice(["", "-1", "99999999999", "1e3", "0x10", "٣", str(2**70)])
    return _request("POST", "/score", _body(rng), "application/json", length=length)


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 2_000))


def _zipped(rng: random.Random) -> bytes:
    return _request("POST", rng.choice(PATHS), BOMB, "application/json", "content-encoding: gzip")


CASES: tuple[Callable[[random.Random], bytes], ...] = (
    *[_bodies] * 3, _tensors, _methods, _headers, _lengths, _noise, _zipped,
)  # fmt: skip
