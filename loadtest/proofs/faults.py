"""What a store and its network can do, one by one, under load: every answer is a 200, in time, and whole again soon after."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from loadtest.fault_proxy import Fault
from loadtest.open_loop import Job, offer_apart
from loadtest.proofs.system import Row, System

PER_S, FAULT_S = 30.0, 3.0
RECOVERED_S = 2.0

FAULTS = {
    "latency, 20 ms": Fault(delay_s=0.02),
    "latency, 1 s": Fault(delay_s=1.0),
    "jitter, 0 to 200 ms": Fault(delay_s=0.1, jitter_s=0.1),
    "replies in pieces of 100 bytes": Fault(piece_bytes=100),
    "20 KB a second": Fault(bytes_per_s=20_000),
    "half open": Fault(silent=True),
    "reset": Fault(reset=True),
    "cut off after 5 KB": Fault(cut_after_bytes=5_000),
    "refused": Fault(refuse=True),
    "-LOADING": Fault(reply=b"-LOADING loading\r\n"),
    "-OOM": Fault(reply=b"-OOM out of memory\r\n"),
    "-READONLY": Fault(reply=b"-READONLY replica\r\n"),
    "-MOVED": Fault(reply=b"-MOVED 1 127.0.0.1:1\r\n"),
    "-NOAUTH": Fault(reply=b"-NOAUTH needed\r\n"),
}
FROZEN = "frozen (SIGSTOP)"


def prove_faults(system: System, seconds: float = FAULT_S) -> list[Row]:
    """A row a fault."""
    return [_under(system, name, seconds) for name in (*FAULTS, FROZEN)]


def _under(system: System, name: str, seconds: float) -> Row:
    count = int(PER_S * seconds)
    with _fault(system, name):
        outcome = offer_apart(Job(system.port, system.requests, PER_S, count))
    back = whole_again_s(system)
    failed = int((outcome.status != 200).sum())
    degraded = float(outcome.degraded.mean())
    p99 = float(np.nanpercentile(outcome.answer_ms, 99))
    value = f"{failed} failed, {degraded:.0%} degraded, p99 {p99:.0f} ms, whole again after {back:.1f} s"
    return Row(
        f"fault: {name}", value, f"0 failed, whole within {RECOVERED_S:g} s", count, seconds, not failed and back <= RECOVERED_S
    )


@contextmanager
def _fault(system: System, name: str) -> Iterator[None]:
    if name == FROZEN:
        with system.frozen_store():
            yield
        return
    system.proxy.fault = FAULTS[name]
    try:
        yield
    finally:
        system.proxy.fault = Fault()


def whole_again_s(system: System, patience_s: float = 10.0) -> float:
    """How long until an answer is not degraded."""
    started = time.perf_counter()
    while time.perf_counter() - started < patience_s:
        if not offer_apart(Job(system.port, system.requests, 20, 1)).wrong.any():
            break
    return time.perf_counter() - started
