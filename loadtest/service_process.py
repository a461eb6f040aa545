"""`python -m service` in a process of its own, and what CPU it uses."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 120


@contextmanager
def service_process(
    command: str, path: str, log: Path, module: str = "service", **settings: str
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`python -m service COMMAND` with these settings and no others, once `path` answers 200; the process and its port.
    `module`: another one that is run in its place.

    Raises:
        ValueError: it does not start; the text names the log.
    """
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    environment |= {
        "CTR_PROVIDERS": "cpu",
        "CTR_DRAIN_MS": "0",
        **settings,
        "CTR_PORT": str(port),
        "CTR_CONSUMER_PORT": str(port),
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        words = [sys.executable, "-m", module, *command.split()]
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if process.poll() is not None or time.monotonic() > end:
                raise ValueError(f"python -m {module} {command} does not start, see {log}")
            time.sleep(0.1)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far: to the nanosecond of its living threads where the kernel tells, else in ticks."""
    process = Path(f"/proc/{pid}")
    if not (process / "schedstat").exists():
        user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    nanoseconds = 0
    for task in (process / "task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9
