"""A server of another system in a process of its own, with all processes that it starts: their CPU, and their end."""

import ctypes
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError

import psutil

from loadtest.peers.apps.in_memory import FOLDER, PORT, WORKERS
from loadtest.peers.environment import ROOT
from loadtest.service_process import free_port

START_S, END_S = 120, 20
PR_SET_CHILD_SUBREAPER = 36  # of Linux: processes whose parent ended become ours, and can be found
SILENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # else it leaves a token in the home folder
    "BENTOML_DO_NOT_TRACK": "True",
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
}


class PeerServer:
    """A running one. Nothing else may be started by this process while its CPU is read."""

    def __init__(self, port: int, others: set[psutil.Process]) -> None:
        self.port, self._others = port, others

    @property
    def processes(self) -> set[psutil.Process]:
        """All that it consists of."""
        return set(psutil.Process().children(recursive=True)) - self._others

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far; processes that ended are forgotten."""
        total = 0.0
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                total += all_cpu_s(process.pid)
        return total


def all_cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, in hundredths, threads that ended included: pools of some servers shrink."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def peer_server(python: Path, module: str, folder: Path, workers: int, body: bytes, log: Path) -> Iterator[PeerServer]:
    """`python -m module` over a folder of `in_memory`, once it answers `body` with 200. Ended with all it started.

    Raises:
        ValueError: it does not start, or refuses the body; the text names the log.
    """
    _adopt_orphans(True)
    server = PeerServer(free_port(), set(psutil.Process().children(recursive=True)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTR_", "VIRTUAL_ENV"))} | SILENT
    environment |= {FOLDER: str(folder.resolve()), PORT: str(server.port), WORKERS: str(workers), "PYTHONPATH": str(ROOT)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as temporary:  # Ray's sockets need a short path
        with log.open("a") as output:
            environment["TMPDIR"] = temporary
            root = subprocess.Popen([str(python), "-m", module], env=environment, cwd=ROOT, stdout=output, stderr=output)
        try:
            _wait(root, server.port, body, f"{module} does not start, see {log}")
            yield server
        finally:
            _end(root, server)
            _adopt_orphans(False)


def ask(port: int, body: bytes) -> bytes:
    """The answer to one request; raises OSError where there is none."""
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/score", body, headers), timeout=30) as reply:
        answer: bytes = reply.read()
    return answer


def _adopt_orphans(wanted: bool) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def _wait(root: "subprocess.Popen[bytes]", port: int, body: bytes, failed: str) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            ask(port, body)
            return
        except HTTPError as error:  # some answer 404 or 503 before they are ready
            said = f"{failed}: {error.code}, {error.read()[:200]!r}"
        except OSError as error:
            said = f"{failed}: {error}"
        if root.poll() is not None or time.monotonic() > end:
            raise ValueError(said)
        time.sleep(0.2)


def _end(root: "subprocess.Popen[bytes]", server: PeerServer) -> None:
    """First the one that was started, so that it can end the others; then whatever is left."""
    started = server.processes
    root.terminate()
    with suppress(subprocess.TimeoutExpired):
        root.wait(END_S)
    left = started | server.processes
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, END_S)
