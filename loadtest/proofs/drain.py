"""SIGTERM with callers on open connections: who loses what."""

import http.client
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.proofs.system import CROWDED, Row, system

CALLERS, DRAIN_MS, BEFORE_S, NOT_READY_S = 50, 2_000, 1.0, 0.5
SETTINGS = CROWDED | {"CTR_DRAIN_MS": str(DRAIN_MS), "CTR_MAX_IN_FLIGHT": "1000"}


@dataclass
class Seen:
    """What became of the callers' requests."""

    answered: int = 0
    others: list[int] = field(default_factory=list)  # statuses but 200
    lost: list[str] = field(default_factory=list)  # errors of connections


def prove_drain(folder: Path) -> list[Row]:
    """50 callers that ask again and again, and connect anew when they are asked to, until nobody listens."""
    seen = Seen()
    with system(folder, SETTINGS, direct=True) as one:
        callers = [
            threading.Thread(target=call_until_nobody_listens, args=(one.port, one.requests[0], seen)) for _ in range(CALLERS)
        ]
        for thread in callers:
            thread.start()
        time.sleep(BEFORE_S)
        os.kill(one.pid, signal.SIGTERM)
        told = time.perf_counter()
        not_ready_s = _not_ready_s(one.url, told)
        for thread in callers:
            thread.join(60)
        lasted = time.perf_counter() - told
    n, name = seen.answered + len(seen.others) + len(seen.lost), f"SIGTERM, {CALLERS} callers"
    return [
        Row("SIGTERM: not ready after", f"{not_ready_s:.2f} s", f"{NOT_READY_S:g} s", 1, not_ready_s, not_ready_s <= NOT_READY_S),
        Row(f"{name}: requests and connections lost", _first(seen.lost), "0", n, lasted, not seen.lost),
        Row(f"{name}: answers other than 200", _first(seen.others), "0", n, lasted, not seen.others),
        Row(
            f"{name}: served on for, and ended", f"{lasted:.1f} s", f"{DRAIN_MS / 1000:g} s", n, lasted, lasted >= DRAIN_MS / 1000
        ),
    ]


def call_until_nobody_listens(port: int, body: bytes, seen: Seen) -> None:
    """One caller, who connects anew whenever it is asked to."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    while True:
        try:
            if connection.sock is None:
                connection.connect()
        except ConnectionRefusedError:
            return  # nobody listens any more: nobody was lost
        except OSError as error:
            seen.lost.append(repr(error))
            return
        try:
            connection.request("POST", "/score", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            seen.lost.append(repr(error))
            return
        if answer.status == 200:
            seen.answered += 1
        else:
            seen.others.append(answer.status)
        if answer.headers.get("connection") == "close":
            connection.close()


def _not_ready_s(url: str, since: float) -> float:
    """When the scorer said that it is not ready, by a connection of its own each time."""
    while time.perf_counter() - since < DRAIN_MS / 1000:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            return time.perf_counter() - since
        time.sleep(0.01)
    return float("inf")


def _first(wrong: "list[int] | list[str]") -> str:
    return f"{len(wrong)}: {wrong[0]}" if wrong else "0"
