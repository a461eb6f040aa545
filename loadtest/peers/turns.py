"""Work in processes that take turns: time and CPU of each turn, and the most memory a process ever had.

The child calls `answer_turns`, the parent `contender`. A turn is as many calls as fit into 0.3 s, one at least, and its time
their median: between two turns the others fill the caches, and some the memory for minutes; a server that is asked all the time
does not see that. No library is needed, so any Python can be a child. Memory is the kernel's own mark of the process (VmHWM):
what getrusage tells a child begins at its parent's.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

MB = 1e6
TURN_S = 0.3


def peak_mb() -> float:
    """Most memory that this process ever had, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MB


def answer_turns(work: Callable[[], Any]) -> None:
    """Work a turn for every line on stdin, and say on stdout what it took; what the work prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        print(json.dumps({"peak_mb": peak_mb()}), file=answers)
        for _ in sys.stdin:
            print(json.dumps(_turn(work) | {"peak_mb": peak_mb()}), file=answers)


def _turn(work: Callable[[], Any]) -> dict[str, float]:
    """Medians of its calls."""
    walls: list[float] = []
    cpus: list[float] = []
    end = time.perf_counter() + TURN_S
    while not walls or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"ms": median(walls) * 1000, "cpu_ms": median(cpus) * 1000}


class Contender:
    """A child that waits for its turn."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Path) -> None:
        self.name, self._process, self._log = name, process, log
        self.loaded_mb: float = self._answer()["peak_mb"]  # before its first turn

    def turn(self) -> dict[str, float]:
        """Let it work: `ms` and `cpu_ms` of a call, `peak_mb`.

        Raises:
            ValueError: it ended; the text names its log.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it left is in the log
            print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ValueError(f"{self.name} ended with status {self._process.wait()}, see {self._log}")
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def contender(name: str, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[Contender]:
    """A child ready for its first turn; it ends with the block. Raises ValueError as `Contender.turn`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as errors:
        process = subprocess.Popen(
            list(command), env=dict(os.environ) | dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            text=True,
        )  # fmt: skip
    try:
        yield Contender(name, process, log)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
