"""What a store and its network can do, one by one, under load and with the default policy: every call is answered in time, those
without the store wait for it no longer, and answers are whole again soon after."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from loadtest.open_loop import Job, Outcome, offer, offer_apart
from loadtest.proofs.fault_proxy import NO_FAULT, Fault
from loadtest.proofs.system import LIFE, USERS, Row, System, system
from loadtest.served.bench_setup import user_id
from service.settings import Settings

PER_S = 30.0
RECOVERED_S, DETECTED_S = 2.0, 1.0
ANSWERED, LATE = 0.95, 0.01  # share of 200 at least, of 504 at most; of 503 there is none
NO_WAIT_MS, RUN = 2.0, 3  # a read of the store that is shorter waits for nothing; so many in a row: the breaker is open
READ = re.compile(r"behaviours;dur=([0-9.]+)")
CALM = "none, for comparison"

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
FROZEN, KILLED, WRONG, ABSENT = "frozen (SIGSTOP)", "killed (SIGKILL)", "wrong types", "absent at start"
NAMES = (CALM, *FAULTS, FROZEN, KILLED, WRONG)  # ABSENT is a scorer of its own


def prove_faults(folder: Path, seconds: float) -> list[Row]:
    """A row a fault, after one without."""
    with system(folder, {}) as one:
        calm = _offer(one, seconds)
        calm_ms = p99_ms(calm)
        rows = [fault_row(CALM, calm, seconds, whole_again_s(one), calm_ms)]
        for name in NAMES[1:]:
            with _fault(one, name):
                outcome = _offer(one, seconds)
            rows.append(fault_row(name, outcome, seconds, whole_again_s(one), calm_ms))
    with system(folder, {}, fault=Fault(refuse=True)) as one:
        outcome = _offer(one, seconds)
        one.proxy.fault = NO_FAULT
        return [*rows, fault_row(ABSENT, outcome, seconds, whole_again_s(one), calm_ms)]


def _offer(one: System, seconds: float) -> Outcome:
    return offer_apart(Job(one.port, one.requests, PER_S, int(PER_S * seconds)))


def fault_row(name: str, outcome: Outcome, seconds: float, back_s: float, calm_ms: float) -> Row:
    """One fault's verdict; `calm_ms`: p99 of answers without a fault."""
    n, limit_ms = len(outcome.status), calm_ms + waits_ms()
    whole, late, gone = (float(np.mean(outcome.status == status)) for status in (200, 504, 503))
    others, degraded = int((~np.isin(outcome.status, (200, 429, 503, 504))).sum()), float(outcome.degraded.mean())
    p99, detected = p99_ms(outcome), detected_s(outcome.degraded, outcome.timing)
    value = (
        f"{whole:.1%} of 200, {degraded:.0%} degraded, {late:.1%} of 504, {gone:.1%} of 503, {others} failed, p99 {p99:.0f} ms, "
        f"no wait for the store after {detected:.1f} s, whole again after {back_s:.1f} s"
    )
    wanted = (
        f"{ANSWERED:.0%} of 200, {LATE:.0%} of 504, no other 5xx, p99 {limit_ms:.0f} ms, no wait after {DETECTED_S:g} s, whole "
        f"within {RECOVERED_S:g} s"
    )
    met = (
        whole >= ANSWERED and late <= LATE and not gone and not others and p99 <= limit_ms and detected <= DETECTED_S
        and back_s <= RECOVERED_S
    )  # fmt: skip
    return Row(f"fault: {name}", value, wanted, n, seconds, met)


def waits_ms() -> float:
    """What a request may wait for the store by the default policy: a new connection and a reply."""
    policy = Settings()
    return policy.store_connect_timeout_ms + policy.store_timeout_ms


def p99_ms(outcome: Outcome) -> float:
    """Of the answers of 200; infinite without any."""
    answered = outcome.answer_ms[outcome.status == 200]
    return float(np.percentile(answered, 99)) if len(answered) else float("inf")


def detected_s(degraded: "np.ndarray[tuple[int], np.dtype[np.bool_]]", timing: Sequence[str]) -> float:
    """From the first request to the first of three degraded answers in a row that did not wait for the store; 0 where most
    answers are whole, infinite where there are no such three."""
    if degraded.mean() < 0.5:
        return 0.0
    read_ms = np.array([float(found[1]) if (found := READ.search(text)) else np.inf for text in timing])
    runs = np.convolve(degraded & (read_ms < NO_WAIT_MS), np.ones(RUN), "valid") == RUN
    return float(np.argmax(runs) / PER_S) if runs.any() else float("inf")


@contextmanager
def _fault(one: System, name: str) -> Iterator[None]:
    own: dict[str, Callable[[], AbstractContextManager[None]]] = {
        FROZEN: one.store.frozen,
        KILLED: one.killed_store,
        WRONG: lambda: one.store.wrong_types([user_id(LIFE, user) for user in range(USERS)]),
    }
    if name in own:
        with own[name]():
            yield
        return
    one.proxy.fault = FAULTS[name]
    try:
        yield
    finally:
        one.proxy.fault = NO_FAULT


def whole_again_s(system: System, patience_s: float = 10.0) -> float:
    """How long until an answer is not degraded."""
    started = time.perf_counter()
    while time.perf_counter() - started < patience_s:
        if not offer(Job(system.port, system.requests, 20, 1)).wrong.any():
            break
    return time.perf_counter() - started
