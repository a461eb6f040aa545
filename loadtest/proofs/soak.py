"""Half of what it can do, for long: memory and latency do not grow. And a control, which does grow, is found out."""

import numpy as np

from loadtest.open_loop import Job, offer_apart
from loadtest.proofs.overload import knee_per_s
from loadtest.proofs.system import Row, System

PIECES = 20  # of the whole time
GROWTH_MB = 20.0  # from the middle to the end
SLOPE_MS = 0.5  # of the median, over the whole time
LEAK_MB = 2.0  # that the control grows each piece


def prove_soak(system: System, seconds: float) -> list[Row]:
    """Constant load in pieces; after each the scorer's memory and the piece's median latency."""
    per_s = max(knee_per_s(system) / 2, 1)
    memory, medians, wrong, count = [], [], 0, 0
    for _ in range(PIECES):
        n = max(int(per_s * seconds / PIECES), 10)
        outcome = offer_apart(Job(system.port, system.requests, per_s, n))
        wrong, count = wrong + int(outcome.wrong.sum()), count + n
        medians.append(float(np.nanmedian(outcome.answer_ms)))
        memory.append(system.memory_mb())
    growth, slope = growth_of(memory), slope_of(medians)
    leaked = growth_of([value + LEAK_MB * piece for piece, value in enumerate(memory)])
    crept = slope_of([value * (1 + 0.02 * piece) for piece, value in enumerate(medians)])
    return [
        Row("soak: wrong answers", str(wrong), "0", count, seconds, wrong == 0),
        Row("soak: memory from the middle to the end", f"{growth:+.1f} MiB", f"{GROWTH_MB:g} MiB", PIECES, seconds,
            growth <= GROWTH_MB),
        Row("soak: slope of the median latency", f"{slope:+.2f} ms", f"{SLOPE_MS:g} ms", PIECES, seconds, slope <= SLOPE_MS),
        Row(f"soak, control: {LEAK_MB:g} MiB more each piece", f"{leaked:+.1f} MiB", f"above {GROWTH_MB - 1:g} MiB", PIECES, 0,
            leaked > GROWTH_MB - 1),
        Row("soak, control: 2 % slower each piece", f"{crept:+.2f} ms", f"above {SLOPE_MS:g} ms", PIECES, 0, crept > SLOPE_MS),
    ]  # fmt: skip


def growth_of(memory: list[float]) -> float:
    """From the middle of a run to its end, by a line through the second half."""
    half = memory[len(memory) // 2 :]
    return slope_of(half)


def slope_of(values: list[float]) -> float:
    """How much a line through the values rises from the first to the last."""
    steps = np.arange(len(values))
    rise: float = np.polyfit(steps, values, 1)[0] * (len(values) - 1) if len(values) > 1 else 0.0
    return float(rise)
