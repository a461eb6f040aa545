"""The store of a proof: frozen, killed and started again, or with values that are none of ours."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis

from loadtest.served.bench_world import DATA
from store import keys
from store.connection import connect
from store.embedded import embedded_store

KEPT = "kept:"  # before the names of trees that stand aside


class ProvedStore:
    """An embedded store; started again it has another address."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._running = folder, ExitStack()
        self.url, self.pid = "", 0

    def start(self) -> None:
        """Start it over what is in the folder.

        Raises:
            StoreUnavailable: the server does not start.
        """
        self.url = self._running.enter_context(embedded_store(self._folder, borrow=False))
        client = self.client()
        self.pid = int(client.info("server")["process_id"])
        client.close()

    def kill(self) -> None:
        """SIGKILL, as an operating system out of memory would."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it, if it runs."""
        self._running.close()

    def client(self) -> Redis:
        """A connection that no fault touches."""
        return connect(self.url)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: it holds its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def wrong_types(self, users: Sequence[str]) -> Iterator[None]:
        """A string in place of each user's tree."""
        client, trees = self.client(), [keys.tree(DATA, user) for user in users]
        for tree in trees:
            client.rename(tree, KEPT + tree)
            client.set(tree, "no tree")
        try:
            yield
        finally:
            for tree in trees:
                client.rename(KEPT + tree, tree)
            client.close()
