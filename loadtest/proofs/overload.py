"""Twice and five times what it can do: who is taken is answered in time, who is not hears so at once; then all is as before."""

import time

import numpy as np

from loadtest.open_loop import Job, Outcome, offer, offer_apart
from loadtest.proofs.system import Row, System

SLO_MS, REFUSED_MS, RECOVERED_S = 30.0, 5.0, 1.0
KNEE_S, LOAD_S = 4.0, 10.0
CONNECTIONS = 256


def prove_overload(system: System, seconds: float = LOAD_S) -> list[Row]:
    """Rows of both loads; scorer and store share one core, the generator has the other."""
    with system.pinned():
        knee = knee_per_s(system)
        rows = [Row("knee: answers a second, one core for scorer and store", f"{knee:.0f}", "", int(knee * KNEE_S), KNEE_S, True)]
        for times in (2, 5):
            rows += _loaded(system, knee, times, seconds)
    return rows


def knee_per_s(system: System, seconds: float = KNEE_S) -> float:
    """Answers a second where four callers ask as fast as they are answered."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        outcome = offer(Job(system.port, system.requests, 1e6, 100, connections=4))
        count += int((outcome.status == 200).sum())
    return count / (time.perf_counter() - started)


def _loaded(system: System, knee: float, times: int, seconds: float) -> list[Row]:
    count = int(knee * times * seconds)
    outcome = offer_apart(Job(system.port, system.requests, knee * times, count, connections=CONNECTIONS))
    recovery = recovery_s(system, knee / 2)
    taken, refused = outcome.status == 200, outcome.status == 429
    other = int(count - taken.sum() - refused.sum())
    p99, late = _p99(outcome, taken), _p99(outcome, refused)
    name, cores = f"{times} x knee", outcome.cpu_s / seconds
    return [
        Row(f"{name}: 99th percentile of those answered", f"{p99:.1f} ms", f"{SLO_MS:g} ms", int(taken.sum()), seconds,
            p99 <= SLO_MS),
        Row(f"{name}: answered a second", f"{taken.sum() / seconds:.0f}", f"{0.8 * knee:.0f}", count, seconds,
            bool(taken.sum() / seconds >= 0.8 * knee)),
        Row(f"{name}: 99th percentile of refusals", f"{late:.1f} ms", f"{REFUSED_MS:g} ms", int(refused.sum()), seconds,
            late <= REFUSED_MS),
        Row(f"{name}: neither answered nor refused", str(other), "0", count, seconds, other == 0),
        Row(f"{name}: as before after", f"{recovery:.2f} s", f"{RECOVERED_S:g} s", 1, recovery, recovery <= RECOVERED_S),
        Row(f"{name}: cores of the generator", f"{cores:.2f}", "below 1", 1, seconds, cores < 1),
    ]  # fmt: skip


def recovery_s(system: System, per_s: float, patience_s: float = 5.0) -> float:
    """How long after a burst requests are answered in time again: from now to the first of ten good ones in a row."""
    started = time.perf_counter()
    outcome = offer(Job(system.port, system.requests, per_s, int(per_s * patience_s), connections=32))
    good = ~outcome.wrong & (outcome.answer_ms <= SLO_MS)
    runs = np.convolve(good, np.ones(10), "valid") == 10
    first = int(np.argmax(runs)) if runs.any() else len(good)
    return first / per_s if runs.any() else time.perf_counter() - started


def _p99(outcome: Outcome, which: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> float:
    """Of the answers' own time, from their real sending: a generator that is late is not what is proved here."""
    took = (outcome.answer_ms - outcome.late_ms)[which]
    return float(np.percentile(took, 99)) if len(took) else 0.0
