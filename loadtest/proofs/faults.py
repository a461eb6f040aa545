"""What a store and its network can do, one by one, under load and with the default policy: every call is answered, and answers
are whole again soon after."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from loadtest.fault_proxy import Fault
from loadtest.open_loop import Job, Outcome, offer, offer_apart
from loadtest.proofs.system import Row, System

PER_S = 30.0
RECOVERED_S = 2.0

OWN = {200, 429, 503, 504}  # answers that the contract names; all others are failures, none among them
FAULTS = {
    "latency, 2 ms": Fault(delay_s=0.002),
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


def prove_faults(system: System, seconds: float) -> list[Row]:
    """A row a fault."""
    return [_under(system, name, seconds) for name in (*FAULTS, FROZEN)]


def _under(system: System, name: str, seconds: float) -> Row:
    with _fault(system, name):
        outcome = offer_apart(Job(system.port, system.requests, PER_S, int(PER_S * seconds)))
    return fault_row(name, outcome, seconds, whole_again_s(system))


def fault_row(name: str, outcome: Outcome, seconds: float, back_s: float) -> Row:
    """One fault's verdict."""
    n, failed = len(outcome.status), int((~np.isin(outcome.status, list(OWN))).sum())
    other, degraded = int((outcome.status != 200).sum()) - failed, float(outcome.degraded.mean())
    answered = outcome.answer_ms[outcome.status == 200]
    p99 = float(np.percentile(answered, 99)) if len(answered) else float("nan")
    value = (
        f"{failed} failed, {other} refused or late, {degraded:.0%} degraded, p99 {p99:.0f} ms, whole again after {back_s:.1f} s"
    )
    wanted = f"0 failed, whole within {RECOVERED_S:g} s"
    return Row(f"fault: {name}", value, wanted, n, seconds, not failed and back_s <= RECOVERED_S)


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
        if not offer(Job(system.port, system.requests, 20, 1)).wrong.any():
            break
    return time.perf_counter() - started
