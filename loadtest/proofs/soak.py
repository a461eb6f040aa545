"""Half of what it can do, for long: memory and latency do not grow. The control, a scorer that leaks, is found out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from loadtest.open_loop import Job, offer_apart
from loadtest.proofs.system import PATIENT, Row, System, knee_per_s, system

PIECES = 20  # of the whole time
GROWTH_MB = 20.0  # from the middle to the end
SLOPE_MS = 0.5  # of the median latency, over the whole time
ERROR_MS = 1.0  # twice the standard error of that rise: beyond it nothing is decided
CONTROL_S = 40.0  # of the control
TIMES = 2.5  # the limits, over its own time: so much leaks and rises in the control

console = Console(stderr=True)


@dataclass
class Soaked:
    """What was seen, piece by piece."""

    per_s: float
    memory_mb: list[float] = field(default_factory=list)
    median_ms: list[float] = field(default_factory=list)
    wrong: int = 0
    n: int = 0


def prove_soak(folder: Path, seconds: float) -> list[Row]:
    """A constant load on a scorer, and for a shorter time on one that leaks."""
    with system(folder, PATIENT, direct=True) as sound:
        soaked = soak(sound, max(knee_per_s(sound) / 2, 1), seconds)
    lasts = min(seconds, CONTROL_S)
    with system(folder, PATIENT | leak(soaked.per_s, lasts), "loadtest.proofs.leaky_service", direct=True) as leaky:
        control = soak(leaky, soaked.per_s, lasts)
    return soak_rows(soaked, seconds, control)


def leak(per_s: float, seconds: float) -> dict[str, str]:
    """How the control is wrong: a few times what is allowed, in so many seconds."""
    kept, slower = TIMES * GROWTH_MB * 2**20 / (per_s * seconds / 2), TIMES * SLOPE_MS / 1000 / seconds
    return {"LEAKED_BYTES": f"{kept:.0f}", "SLOWER_S": f"{slower:.9f}"}


def soak(one: System, per_s: float, seconds: float) -> Soaked:
    """Constant load in pieces; after each the scorer's memory and the piece's median latency."""
    soaked = Soaked(per_s)
    for piece in range(PIECES):
        count = max(int(per_s * seconds / PIECES), 5)
        outcome = offer_apart(Job(one.port, one.requests, per_s, count))
        soaked.wrong, soaked.n = soaked.wrong + int(outcome.wrong.sum()), soaked.n + count
        soaked.median_ms.append(float(np.nanmedian(outcome.answer_ms)))
        soaked.memory_mb.append(one.memory_mb())
        console.print(
            f"soak {piece + 1}/{PIECES}: {soaked.n} requests, {soaked.wrong} wrong, median {soaked.median_ms[-1]:.1f} ms, "
            f"{soaked.memory_mb[-1]:.0f} MiB", highlight=False,
        )  # fmt: skip
    return soaked


def soak_rows(soaked: Soaked, seconds: float, control: Soaked) -> list[Row]:
    """Verdicts: what the sound one must not show, the control must."""
    grown, leaked = growth_of(soaked.memory_mb), growth_of(control.memory_mb)
    (rise, error), (crept, unsure) = rise_of(soaked.median_ms), rise_of(control.median_ms)
    short = min(seconds, CONTROL_S)
    return [
        Row(f"soak at {soaked.per_s:.0f} a second: wrong answers", str(soaked.wrong), "0", soaked.n, seconds, soaked.wrong == 0),
        Row("soak: memory from the middle to the end", f"{grown:+.1f} MiB", f"{GROWTH_MB:g} MiB", PIECES, seconds,
            is_flat(grown)),
        Row("soak: rise of the median latency", f"{rise:+.2f} ± {2 * error:.2f} ms, {verdict(rise, error)}",
            f"{SLOPE_MS:g} ms or none beyond chance, which is {ERROR_MS:g} ms at most", PIECES, seconds,
            verdict(rise, error) == "level"),
        Row("control, a scorer that leaks: memory", f"{leaked:+.1f} MiB", "found out", PIECES, short, not is_flat(leaked)),
        Row("control, a scorer that gets slower: median latency", f"{crept:+.2f} ± {2 * unsure:.2f} ms", "found out", PIECES,
            short, verdict(crept, unsure) == "rises"),
    ]  # fmt: skip


def is_flat(growth_mb: float) -> bool:
    """Whether memory stays."""
    return growth_mb <= GROWTH_MB


def verdict(rise_ms: float, error_ms: float) -> str:
    """Whether latency rises, is level (rises little, or by chance), or too noisy to say."""
    if rise_ms > max(SLOPE_MS, 2 * error_ms):
        return "rises"
    return "level" if 2 * error_ms <= ERROR_MS else "not decided"


def growth_of(memory_mb: Sequence[float]) -> float:
    """From the middle of a run to its end, by a line through the second half."""
    return rise_of(memory_mb[len(memory_mb) // 2 :])[0]


def rise_of(values: Sequence[float]) -> tuple[float, float]:
    """How much a line through the values rises from the first to the last, and the standard error of that."""
    count = len(values)
    if count < 3:
        return (values[-1] - values[0], float("inf")) if count else (0.0, float("inf"))
    steps = np.arange(count) - (count - 1) / 2
    slope = float(steps @ np.asarray(values)) / float(steps @ steps)
    left = np.asarray(values) - np.mean(values) - slope * steps
    error = float(np.sqrt(left @ left / (count - 2) / (steps @ steps)))
    return slope * (count - 1), error * (count - 1)
