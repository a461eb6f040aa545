"""Functions that take turns on one core, ours and a library's, and how many times as fast ours is."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import onnxruntime as ort

OURS = "ours"
Turn = tuple[float, float]  # ms of CPU, and from start to end
Runs = Mapping[str, Callable[[], Any]]  # ours first, then at most one library by name and version


def timed(run: Callable[[], Any], pause_s: float = 0) -> Turn:
    """What a call took; the CPU is of the whole process, in the pause after the call too."""
    started, before = time.perf_counter(), time.process_time()
    run()
    wall_s = time.perf_counter() - started
    if pause_s:
        time.sleep(pause_s)
    return (time.process_time() - before) * 1000, wall_s * 1000


def in_turns(runs: Runs, repeats: int) -> dict[str, Any]:
    """Milliseconds, medians of so many turns after one that is not counted: `ours_ms` of CPU, `ours_wall_ms`; and of the library
    `library_ms` of CPU, and `times`, the median of the turns' ratios."""
    cpu: dict[str, list[float]] = {who: [] for who in runs}
    wall: dict[str, list[float]] = {who: [] for who in runs}
    for repeat in range(repeats + 1):
        for who, run in runs.items():
            cpu_ms, wall_ms = timed(run)
            if repeat:  # the first compiles, packs, and fills caches
                cpu[who].append(cpu_ms)
                wall[who].append(wall_ms)
    measured: dict[str, Any] = {"ours_ms": round(median(cpu[OURS]), 2), "ours_wall_ms": round(median(wall[OURS]), 2)}
    for who in runs:
        if who != OURS:
            times = [theirs / ours for theirs, ours in zip(cpu[who], cpu[OURS], strict=True)]
            measured |= {"library": who, "library_ms": round(median(cpu[who]), 2), "times": round(median(times), 1)}
    return measured


def one_thread(graph: bytes) -> ort.InferenceSession:
    """onnxruntime as one gets it, on one thread of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
