"""Which versions of models can be served: those are loaded; of the others it is kept why not, and when to try again."""

import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path

from service.errors import BundleRefused
from service.loading import LoadedBundle, Loading
from service.metrics import Metrics
from store.bundle import MANIFEST, BundleInvalid, read_manifest

log = logging.getLogger("longtrail")

AGAIN_S = 5.0  # between two tries to load what is not bad


class Admission:
    """Versions of one data set in one folder."""

    def __init__(self, folder: Path, data: str, loading: Loading, metrics: Metrics) -> None:
        """`data`: the data set to serve; empty = that of the first version that is loaded."""
        self.data = data
        self._folder, self._loading, self._metrics = folder, loading, metrics
        self.refused: dict[str, str] = {}  # by `model:version`, as all here: why it is bad, or what was missing
        self.skipped: dict[str, str] = {}  # of another data set
        self._again: dict[str, float] = {}  # refused, and not for being bad: when to try again, on the monotonic clock

    def reason(self, model: str, version: str) -> str:
        """Why a version was not loaded when it was tried; empty: it was not, or it was loaded."""
        name = f"{model}:{version}"
        return self.refused.get(name) or self.skipped.get(name) or ""

    def load(self, model: str, version: str) -> LoadedBundle:
        """A version, loaded and warmed.

        Raises:
            BundleRefused: it cannot be served; said, counted and kept.
        """
        name, folder = f"{model}:{version}", self._folder / model / version
        try:
            manifest = read_manifest(folder)
            if manifest.data != (self.data or manifest.data):
                self.skipped[name] = f"data set {manifest.data}, this scorer serves {self.data}"
                log.info("bundle skipped: %s is of %s", name, self.skipped[name])
                raise BundleRefused(f"{name}: {self.skipped[name]}", "version")
            with self._metrics.model_load.time():
                loaded = self._loading.load(folder)
        except BundleInvalid as error:
            log.error("bundle refused: %s", error)
            self._metrics.model_loads.labels("refused").inc()
            self.refused[name] = str(error)
            self._again.pop(name, None)
            raise BundleRefused(str(error), "version") from error
        except BundleRefused:
            raise
        except Exception as error:  # no memory, no file descriptor: it says nothing of the bundle, and may pass
            log.exception("bundle not loaded: %s", name)
            self._metrics.model_loads.labels("refused").inc()
            self.refused[name] = f"{name}: {type(error).__name__}: {error}"
            self._again[name] = time.monotonic() + AGAIN_S
            raise BundleRefused(self.refused[name], "version") from error
        self.refused.pop(name, None)
        self._again.pop(name, None)
        self._metrics.model_loads.labels("ok").inc()
        self.data = manifest.data
        return loaded

    def is_finished(self, model: str, version: str) -> bool:
        """Whether all of it is written."""
        return (self._folder / model / version / MANIFEST).is_file()

    def is_time_for(self, model: str, versions: Iterable[str]) -> bool:
        """Not where one of them is not finished, nor in the pause after one could not be loaded."""
        return all(
            self.is_finished(model, version) and self._again.get(f"{model}:{version}", 0) <= time.monotonic()
            for version in versions
        )

    def is_out(self, model: str, version: str) -> bool:
        """Whether it need not be tried now."""
        name = f"{model}:{version}"
        return name in self.skipped or (name in self.refused and time.monotonic() < self._again.get(name, math.inf))

    def may_pass(self, model: str, versions: Iterable[str]) -> bool:
        """Whether one of these was refused, and not for being bad."""
        return any(f"{model}:{version}" in self._again for version in versions)
