"""Functions that take turns on one core, ours and a library's, and how many times as fast ours is."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import onnxruntime as ort

OURS = "ours"
Runs = Mapping[str, Callable[[], Any]]  # ours first, then at most one library by name and version


def in_turns(runs: Runs, repeats: int) -> dict[str, Any]:
    """Milliseconds, medians of so many turns after one that is not counted: `ours_ms` of CPU, `ours_wall_ms`; and of the library
    `library_ms` of CPU, and `times`, the median of the turns' ratios."""
    cpu: dict[str, list[float]] = {who: [] for who in runs}
    wall: dict[str, list[float]] = {who: [] for who in runs}
    for repeat in range(repeats + 1):
        for who, run in runs.items():
            before = time.perf_counter(), time.process_time()
            run()
            if repeat:  # the first compiles, packs, and fills caches
                wall[who].append((time.perf_counter() - before[0]) * 1000)
                cpu[who].append((time.process_time() - before[1]) * 1000)
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
