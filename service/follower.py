"""Looks at the folder of bundles now and then: labels that another process wrote, and by setting new versions."""

import logging
import threading
import time

from service.bundles import Bundles

log = logging.getLogger("longtrail")

LABELS_S = 0.5  # a look costs some calls of stat


class Follower:
    """A thread that calls `Bundles.follow`."""

    def __init__(self, bundles: Bundles, poll_s: float) -> None:
        """Start. `poll_s`: how often new versions are looked for, 0 = never; labels are followed in any case."""
        self._bundles, self._poll_s = bundles, poll_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._ended.wait(min(LABELS_S, self._poll_s or LABELS_S)):
            newest = 0 < self._poll_s <= time.monotonic() - looked
            looked = time.monotonic() if newest else looked
            try:
                self._bundles.follow(newest)
            except Exception:  # the edge: the scorer serves what it has, and looks again
                log.exception("following the folder of bundles failed")
