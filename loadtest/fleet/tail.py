"""The tail of a fleet, simulated: a request reads one shard of the store, then waits for a core of a scorer.

Shards are alike and independent, so one queue stands for all that are well and one for the slow one; a request that reads f
shards waits for the slowest of f draws. All of a user is on one shard, so f is 1 here; others are shown for comparison.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.fleet.plan import Demand, Fleet, Machine, Measured

SEED, REQUESTS = 23, 200_000
REPLY_SIGMA = 0.5  # of a reply's time, lognormal: lives differ
NETWORK_MS = 0.3  # there and back, to store and scorer
SLOWER = 10  # times, the slow shard
STORE_TIMEOUT_MS = 8.0  # CTR_STORE_TIMEOUT_MS: a longer wait is a degraded answer, not a later one
NORMAL_99 = 2.326

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Tail:
    """What callers see, in ms, and which share of answers is degraded."""

    what: str
    p50_ms: float
    p99_ms: float
    p999_ms: float
    degraded: float


def simulate(demand: Demand, machine: Machine, of: Measured, store: Fleet, scorers: Fleet) -> list[Tail]:
    """The cases: all well; one slow shard, with fan-outs of 1, 10 and 50; with reads from the replicas in turn.

    Cost: about two seconds.
    """
    random = np.random.default_rng(SEED)
    shards = max(store.machines * machine.cores // machine.copies, 1)  # primaries, one core each
    between_ms = 1000 * shards / demand.requests_per_s  # of two reads of a shard
    scored = _scored(random, of, demand.requests_per_s / scorers.machines, machine.cores)
    cases = [("all well", 1, 0.0, 1)]
    cases += [(f"one of {shards:,} shards {SLOWER} times slower, fan-out {f}", f, 1 / shards, 1) for f in (1, 10, 50)]
    if machine.copies > 1:
        name = f"the same, fan-out 1, reads from {machine.copies} copies in turn"
        cases.append((name, 1, 1 / shards / machine.copies, machine.copies))
    tails = []
    for what, fan_out, share, copies in cases:
        well = queue(random, between_ms * copies / fan_out, of.reply_ms / fan_out)
        slow = queue(random, between_ms * copies / fan_out, of.reply_ms / fan_out * SLOWER)
        waited = read(random, well, slow, fan_out, share)
        late = waited > STORE_TIMEOUT_MS
        total = np.minimum(waited, STORE_TIMEOUT_MS) + scored + NETWORK_MS
        p50, p99, p999 = np.percentile(total, (50, 99, 99.9)).round(2).tolist()
        tails.append(Tail(what, p50, p99, p999, float(late.mean())))
    return tails


def queue(random: np.random.Generator, between_ms: float, reply_ms: float, requests: int = REQUESTS) -> Times:
    """Time in one shard, waiting and reply, of requests that come by chance; Lindley's recursion. Stops at ten time limits."""
    arrive = random.exponential(between_ms, requests)
    serve = random.lognormal(np.log(reply_ms) - REPLY_SIGMA**2 / 2, REPLY_SIGMA, requests)  # mean reply_ms
    walk = np.cumsum(serve[:-1] - arrive[1:])
    waits = np.concatenate([[0.0], walk - np.minimum(np.minimum.accumulate(walk), 0)])
    return np.minimum(waits + serve, 10 * STORE_TIMEOUT_MS)


def read(random: np.random.Generator, well: Times, slow: Times, fan_out: int, slow_share: float) -> Times:
    """The slowest of `fan_out` shards for each request; one of them is slow with this chance each."""
    shape = (REQUESTS, fan_out)
    drawn = random.choice(well, shape)
    hit = random.random(shape) < slow_share
    drawn[hit] = random.choice(slow, int(hit.sum()))
    slowest: Times = drawn.max(axis=1)
    return slowest


def _scored(random: np.random.Generator, of: Measured, per_s: float, cores: int) -> Times:
    """Time in a scorer: waiting for a core, then what was measured (median and 99th percentile, lognormal)."""
    sigma = max(np.log(of.p99_ms / of.p50_ms) / NORMAL_99, 0.0)
    taken = random.lognormal(np.log(of.p50_ms), sigma, REQUESTS)
    held = taken * of.cpu_ms / taken.mean()  # of a core
    return taken + core_waits(np.cumsum(random.exponential(1000 / per_s, REQUESTS)), held, cores)


def core_waits(arrivals: Times, held: Times, cores: int) -> Times:
    """How long each request waits for one of the cores, first come, first served."""
    free = [0.0] * cores
    waits = np.empty(len(arrivals))
    for i, (arrived, busy) in enumerate(zip(arrivals.tolist(), held.tolist(), strict=True)):
        begin = max(heapq.heappop(free), arrived)
        waits[i] = begin - arrived
        heapq.heappush(free, begin + busy)
    return waits
