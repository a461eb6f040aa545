"""The bundles a scorer serves: opened, verified, warmed with their golden request."""

import logging
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from service.attend import Graph, attend
from service.behaviours import Fetched
from service.device_options import ON_CPU, DeviceOptions, Providers
from service.errors import NoModel, UnknownModel
from service.metrics import Metrics
from service.request import Call
from service.search import search
from service.tables import STALE, ItemTables, MappedTables, RequestTables
from store.bundle import Bundle, BundleInvalid, Golden, read_manifest, versions
from store.graph_inputs import scores_of

log = logging.getLogger("longtrail")

DEFAULT_MODEL = "twin"  # where several are loaded and no setting chooses


@dataclass(frozen=True)
class LoadedBundle:
    """A verified bundle, its graph and one version of its item tables, ready to score."""

    bundle: Bundle
    graph: Graph
    tables: ItemTables

    def tables_of(self, call: Call, fetched: Fetched, max_age_s: float = 0) -> RequestTables:
        """Item tables that hold the rows of a request; `max_age_s`: older ones are said to be stale, 0 = never."""
        found = self.tables.of_request(
            self.bundle, call.candidates, fetched.behaviours, fetched.snapshot, fetched.store_failed
        )  # fmt: skip
        if max_age_s and time.time() - self.tables.made_at > max_age_s:
            return replace(found, degraded=(*found.degraded, STALE))
        return found


class Bundles:
    """What is served, by model; and what was refused, with the reason."""

    def __init__(
        self, folder: Path, data: str, default_model: str, providers: Providers, threads: int, metrics: Metrics,
        options: DeviceOptions = ON_CPU,
    ) -> None:  # fmt: skip
        """Load the newest good version of every model of one data set. Nothing here raises for a bad bundle.

        Args:
            data: the data set to serve; empty = that of the newest good bundle.
        """
        self.refused: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self._default = default_model
        self._loaded: dict[str, LoadedBundle] = {}
        self._metrics = metrics
        self.data = data
        for version, model in _newest_first(folder):
            if model in self._loaded:
                continue
            try:
                manifest = read_manifest(folder / model / version)
                if manifest.data != (self.data or manifest.data):
                    self.skipped[f"{model}:{version}"] = f"data set {manifest.data}, this scorer serves {self.data}"
                    log.info("bundle skipped: %s:%s is of %s", model, version, self.skipped[f"{model}:{version}"])
                    continue
                loaded = load(folder / model / version, providers, threads, options)
            except BundleInvalid as error:
                log.error("bundle refused: %s", error)
                metrics.model_loads.labels("refused").inc()
                self.refused[f"{model}:{version}"] = str(error)
                continue
            metrics.model_loads.labels("ok").inc()
            metrics.model_info.labels(model, version, loaded.graph.device).set(1)
            self._loaded[model] = loaded
            self.data = manifest.data
            metrics.table_age.labels(model).set_function(partial(self._table_age_s, model))
            metrics.table_version.labels(model, loaded.tables.version).set(1)

    @property
    def names(self) -> list[str]:
        """Names of the models served."""
        return sorted(self._loaded)

    @property
    def all(self) -> list[LoadedBundle]:
        """Everything served."""
        return [self._loaded[name] for name in self.names]

    def replace(self, loaded: LoadedBundle) -> None:
        """Serve a model with other item tables from the next request on."""
        model = loaded.bundle.manifest.model
        old = self._loaded[model].tables.version
        self._loaded[model] = loaded
        if old != loaded.tables.version:
            self._metrics.table_version.remove(model, old)
        self._metrics.table_version.labels(model, loaded.tables.version).set(1)

    def get(self, asked: str | None) -> LoadedBundle:
        """The bundle a request asks for: `name`, `name:version`, or the default.

        Raises:
            NoModel: nothing is loaded.
            UnknownModel: nothing of that name or version; the text lists what there is.
        """
        if not self._loaded:
            raise NoModel("no bundle is loaded" + "".join(f"; {reason}" for reason in self.refused.values()))
        name, _, version = (asked or self._default_name()).partition(":")
        loaded = self._loaded.get(name)
        if loaded is None or version not in ("", loaded.bundle.manifest.version):
            known = ", ".join(f"{known.model}:{known.version}" for known in (entry.bundle.manifest for entry in self.all))
            raise UnknownModel(f"model {asked or name!r}: known are {known}", "model")
        return loaded

    def _table_age_s(self, model: str) -> float:
        return max(time.time() - self._loaded[model].tables.made_at, 0)

    def _default_name(self) -> str:
        return self._default or (self.names[0] if len(self._loaded) == 1 else DEFAULT_MODEL)


def load(folder: Path, providers: Providers, threads: int, options: DeviceOptions = ON_CPU) -> LoadedBundle:
    """Open a bundle, load its graph and replay its golden request, which also warms it.

    Raises:
        BundleInvalid: anything that is not as the manifest says, golden scores included.
    """
    bundle = Bundle(folder)
    graph = Graph(bundle, providers, threads, options)
    bundle.registry.index  # noqa: B018  (made on first use: here, not in the first request)
    loaded = LoadedBundle(bundle, graph, MappedTables(bundle))
    tolerance = graph.tolerance
    difference, _ = golden_difference(loaded, bundle.golden)
    if not difference <= tolerance:  # NaN too
        raise BundleInvalid(f"{folder}: golden scores differ by {difference:.2g}, tolerance {tolerance:.2g}")
    return loaded


def golden_difference(loaded: LoadedBundle, golden: Golden) -> tuple[float, tuple[str, ...]]:
    """Largest difference between a golden request's scores and those it gets here, and what was missing for it.

    Raises:
        BundleInvalid: it cannot be scored.
    """
    bundle = loaded.bundle
    call, fetched = Call("golden", golden.candidates, golden.at, golden.at, golden.context, 0, 0), Fetched(golden.behaviours)
    try:
        searched = search(call, fetched, bundle, loaded.tables_of(call, fetched), takes=loaded.graph.takes)
        scores = scores_of(attend(loaded.graph, searched, 0, math.inf).logit)
    except Exception as error:  # onnxruntime has no base class of its own
        raise BundleInvalid(f"{bundle.folder}: the golden request fails ({error})") from error
    return float(np.abs(scores - golden.scores).max()), searched.degraded


def _newest_first(folder: Path) -> list[tuple[str, str]]:
    """(version, model) of every bundle folder, newest first."""
    models = [path for path in folder.glob("*") if path.is_dir()]
    return sorted(((version, path.name) for path in models for version in versions(path)), reverse=True)
