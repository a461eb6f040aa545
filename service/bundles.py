"""The bundles a scorer serves: opened, verified, warmed with their golden request."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.attend import Graph, Providers
from service.behaviours import Fetched
from service.errors import NoModel, UnknownModel
from service.metrics import Metrics
from service.request import Call
from service.search import search
from store.bundle import Bundle, BundleInvalid, read_manifest, versions
from store.graph_inputs import scores_of

log = logging.getLogger("longtrail")

DEFAULT_MODEL = "twin"  # where several are loaded and no setting chooses


@dataclass(frozen=True)
class LoadedBundle:
    """A verified bundle and its graph, ready to score."""

    bundle: Bundle
    graph: Graph


class Bundles:
    """What is served, by model; and what was refused, with the reason."""

    def __init__(self, folder: Path, data: str, default_model: str, providers: Providers, threads: int, metrics: Metrics) -> None:
        """Load the newest good version of every model of one data set. Nothing here raises for a bad bundle.

        Args:
            data: the data set to serve; empty = that of the newest good bundle.
        """
        self.refused: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self._default = default_model
        self._loaded: dict[str, LoadedBundle] = {}
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
                loaded = load(folder / model / version, providers, threads)
            except BundleInvalid as error:
                log.error("bundle refused: %s", error)
                metrics.model_loads.labels("refused").inc()
                self.refused[f"{model}:{version}"] = str(error)
                continue
            metrics.model_loads.labels("ok").inc()
            metrics.model_info.labels(model, version, loaded.graph.device).set(1)
            self._loaded[model] = loaded
            self.data = manifest.data

    @property
    def names(self) -> list[str]:
        """Names of the models served."""
        return sorted(self._loaded)

    @property
    def all(self) -> list[LoadedBundle]:
        """Everything served."""
        return [self._loaded[name] for name in self.names]

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
            known = ", ".join(entry.bundle.name for entry in self.all)
            raise UnknownModel(f"model {asked or name!r}: known are {known}", "model")
        return loaded

    def _default_name(self) -> str:
        return self._default or (self.names[0] if len(self._loaded) == 1 else DEFAULT_MODEL)


def load(folder: Path, providers: Providers, threads: int) -> LoadedBundle:
    """Open a bundle, load its graph and replay its golden request, which also warms it.

    Raises:
        BundleInvalid: anything that is not as the manifest says, golden scores included.
    """
    bundle = Bundle(folder)
    graph = Graph(bundle, providers, threads)
    bundle.registry.row_of  # noqa: B018  (made on first use: here, not in the first request)
    golden, tolerance = bundle.golden, getattr(bundle.manifest.tolerance, graph.device)
    call = Call("golden", golden.candidates, golden.at, golden.at, golden.context, 0, 0)
    try:
        searched = search(call, Fetched(golden.behaviours), bundle)
        logit = graph.run(searched.inputs).logit
        scores = scores_of(logit, searched.retrieved.place, len(golden.scores))
    except Exception as error:  # onnxruntime has no base class of its own
        raise BundleInvalid(f"{folder}: the golden request fails ({error})") from error
    difference = float(np.abs(scores - golden.scores).max())
    if not difference <= tolerance:  # NaN too
        raise BundleInvalid(f"{folder}: golden scores differ by {difference:.2g}, tolerance {tolerance:.2g}")
    return LoadedBundle(bundle, graph)


def _newest_first(folder: Path) -> list[tuple[str, str]]:
    """(version, model) of every bundle folder, newest first."""
    models = [path for path in folder.glob("*") if path.is_dir()]
    return sorted(((version, path.name) for path in models for version in versions(path)), reverse=True)
