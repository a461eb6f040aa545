"""A consumer of its own process, as a user starts it, for tests that kill it."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.service.serving import until
from tests.world import ROOT, free_port


class Consumer:
    """`python -m service consume`; `settings` are CTR_ names in lower case."""

    def __init__(self, redis_url: str, **settings: object) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process runs
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
        values = {"redis_url": redis_url, "consumer_port": self.port} | settings
        environment |= {f"CTR_{name.upper()}": str(value) for name, value in values.items()}
        command = [sys.executable, "-m", "service", "consume"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self._log)

    @property
    def log(self) -> str:
        """What it said so far."""
        self._log.seek(0)
        return self._log.read()

    def ready(self) -> bool:
        """Whether its metrics are answered."""
        try:
            return self._scraped().status_code == 200
        except httpx.TransportError:
            return False

    def sample(self, name: str) -> float:
        """One of its metrics, labels included as they are printed; 0 if it has none of it."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self._scraped().text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def _scraped(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", verify=False)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._log.close()

    def end(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        finally:
            self.kill()


@contextmanager
def consumer_process(redis_url: str, **settings: object) -> Iterator[Consumer]:
    """A consumer that runs and listens, ended afterwards."""
    consumer = Consumer(redis_url, **settings)
    try:
        until(lambda: consumer.ready() or consumer.process.poll() is not None)
        assert consumer.process.poll() is None, consumer.log
        yield consumer
    finally:
        consumer.end()
