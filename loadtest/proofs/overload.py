"""Twice and five times what it can do: who is taken is answered in time, who is not hears so at once, then all is as before.

Scorer and store share the first core, with one request at a time; the queue is the default one. The generator has the
other cores.
"""

import time
from pathlib import Path

import numpy as np

from loadtest.open_loop import START_S, Job, offer
from loadtest.proofs.paced import Paced, offer_paced
from loadtest.proofs.system import KNEE_CALLERS, KNEE_S, PATIENT, Row, System, knee_per_s, system

ONE_CORE = {"CTR_REQUEST_THREADS": "1", "CTR_STORE_TIMEOUT_MS": "100"}
DIFFER = ", ".join(f"{name}={value}" for name, value in ONE_CORE.items())  # from the defaults
SLO_MS, REFUSED_MS, RECOVERED_S = 30.0, 5.0, 1.0
TIMES = (2, 5)
GOODPUT = 0.75  # of the knee, that is still answered beyond it: our own wish
WHOLE_RUN, PROBED_S = 10, 3.0  # good answers in a row: recovered; how long is looked for them


def prove_overload(folder: Path, seconds: float) -> list[Row]:
    """Rows of both loads."""
    with system(folder, PATIENT | ONE_CORE, direct=True) as one, one.pinned():  # who asks again at once must not be refused
        knee = knee_per_s(one)
    rows = [
        Row(f"knee, scorer and store on one core: answers a second to {KNEE_CALLERS} callers", f"{knee:.1f}", "",
            int(knee * KNEE_S), KNEE_S, True)
    ]  # fmt: skip
    with system(folder, ONE_CORE, direct=True) as one, one.pinned():
        for times in TIMES:
            paced = offer_paced(one.port, one.requests, knee * times, seconds)
            recovery = recovery_s(one, knee / 2, paced.ended_s)
            rows += load_rows(paced, f"{times} x knee ({DIFFER})", knee, times, seconds, recovery)
    return rows


def load_rows(paced: Paced, name: str, knee: float, times: int, seconds: float, recovery: float) -> list[Row]:
    """What one load says."""
    taken, refused = (paced.status == 200) & paced.whole, paced.status == 429
    n, other = len(paced.status), int((~taken & ~refused).sum()) + paced.errors
    p99, late = _percentile(paced, taken, 99), _percentile(paced, refused, 99)
    offered, answered, cores = n / seconds, taken.sum() / seconds, paced.cpu_s / seconds
    return [
        Row(f"{name}: offered and answered or refused, a second", f"{offered:.1f}", f"at least {0.9 * knee * times:.1f}", n,
            seconds, offered >= 0.9 * knee * times),
        Row(f"{name}: p99 of those answered", f"{p99:.1f} ms", f"{SLO_MS:g} ms", int(taken.sum()), seconds, p99 <= SLO_MS),
        Row(f"{name}: answered a second", f"{answered:.1f}", f"at least {GOODPUT * knee:.1f}, {GOODPUT:g} of the knee", n,
            seconds, bool(answered >= GOODPUT * knee)),
        Row(f"{name}: p99 of refusals (median {_percentile(paced, refused, 50):.1f} ms)", f"{late:.1f} ms", f"{REFUSED_MS:g} ms",
            int(refused.sum()), seconds, late <= REFUSED_MS),
        Row(f"{name}: neither answered whole nor refused", str(other), "0", n, seconds, other == 0),
        Row(f"{name}: answered in time again after", f"{recovery:.2f} s", f"{RECOVERED_S:g} s", int(knee / 2 * PROBED_S),
            PROBED_S, recovery <= RECOVERED_S),
        Row(f"{name}: cores of the generator, {paced.generator}", f"{cores:.2f}", "below 0.9", 1, seconds, cores < 0.9),
    ]  # fmt: skip


def recovery_s(one: System, per_s: float, ended_s: float) -> float:
    """How long after a burst, that ended at `ended_s`, requests are answered in time again."""
    before_s = time.perf_counter() + START_S - ended_s
    outcome = offer(Job(one.port, one.requests, per_s, int(per_s * PROBED_S), connections=32))
    return before_s + first_run_s(~outcome.wrong & (outcome.answer_ms <= SLO_MS), per_s)


def first_run_s(good: "np.ndarray[tuple[int], np.dtype[np.bool_]]", per_s: float) -> float:
    """From the first request to the first of ten good ones in a row, by when they were due; all the time, if there are none."""
    runs = np.convolve(good, np.ones(WHOLE_RUN), "valid") == WHOLE_RUN
    return (int(np.argmax(runs)) if runs.any() else len(good)) / per_s


def _percentile(paced: Paced, which: "np.ndarray[tuple[int], np.dtype[np.bool_]]", percent: float) -> float:
    took = paced.took_ms[which]
    return float(np.percentile(took, percent)) if len(took) else 0.0
