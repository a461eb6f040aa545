"""The bundles a scorer serves: several models, several versions of each, and which of them answers whom.

What is served is one dictionary that is replaced as a whole: a request takes its version from it once, and keeps it. A version is
loaded and warmed beside the others before that; one that cannot be is refused, and nothing changes.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.errors import BundleRefused, LabelsNotKept, NoModel, UnknownModel
from service.labels import FILE, Labels, LabelsInvalid, read_labels, write_labels
from service.loading import LoadedBundle, Loading
from service.metrics import Metrics
from service.shared_metrics import remove
from store.bundle import VERSION_PATTERN, BundleInvalid, read_manifest, versions

log = logging.getLogger("longtrail")

DEFAULT_MODEL = "twin"  # where several are loaded and no setting chooses


@dataclass(frozen=True)
class Served:
    """One model: its versions that are loaded, and what they are for."""

    loaded: Mapping[str, LoadedBundle]  # by version
    labels: Labels

    @property
    def stable(self) -> LoadedBundle:
        """The version that answers."""
        return self.loaded[self.labels.stable]


class Bundles:
    """What is served, by model; and what was refused, with the reason."""

    def __init__(self, folder: Path, data: str, default_model: str, loading: Loading, metrics: Metrics) -> None:
        """Load what the labels of every model of one data set name, else its newest good version. Nothing here raises for a
        bad bundle.

        Args:
            data: the data set to serve; empty = that of the newest good bundle.
        """
        self.refused: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.data = data
        self._folder, self._default, self._loading, self._metrics = folder, default_model, loading, metrics
        self._served: dict[str, Served] = {}
        self._changing = threading.Lock()  # one change at a time; requests never wait for it
        self._seen: dict[str, tuple[int, int] | None] = {}  # files of labels, as they were read last
        self._unloaded: set[str] = set()  # models that are not to be served although they are there
        for version, model in _newest_first(folder):
            if model not in self._served:
                self._take_up(model, version)

    @property
    def names(self) -> list[str]:
        """Names of the models served."""
        return sorted(self._served)

    @property
    def all(self) -> list[LoadedBundle]:
        """The stable version of every model."""
        return [self._served[name].stable for name in self.names]

    @property
    def loaded(self) -> list[LoadedBundle]:
        """Every version that is loaded, by model and version."""
        return [served.loaded[version] for _, served in sorted(self._served.items()) for version in sorted(served.loaded)]

    def served(self, model: str) -> Served:
        """One model's versions and labels.

        Raises:
            UnknownModel: it is not served.
        """
        if (served := self._served.get(model)) is None:
            raise UnknownModel(f"model {model!r}: known are {', '.join(self.names) or 'none'}", "model")
        return served

    def get(self, asked: str | None, user_id: str = "") -> LoadedBundle:
        """The version that a request asks for: `name`, `name:label`, `name:version`, or the default model.

        Args:
            user_id: decides between the stable version and a canary, where neither was asked for.

        Raises:
            NoModel: nothing is loaded.
            UnknownModel: nothing of that name, label or version; the text lists what there is.
        """
        everything = self._served
        if not everything:
            raise NoModel("no bundle is loaded" + "".join(f"; {reason}" for reason in self.refused.values()))
        name, _, which = (asked or self._default_name()).partition(":")
        if served := everything.get(name):
            version = (served.labels.of(which) or which) if which else served.labels.answering(name, user_id)
            if loaded := served.loaded.get(version):
                return loaded
        known = ", ".join(f"{one.model}:{one.version}" for one in self.loaded)
        raise UnknownModel(f"model {asked or name!r}: known are {known}", "model")

    def shadow_of(self, model: str) -> str | None:
        """The version that only looks on; None: there is none."""
        served = self._served.get(model)
        return served.labels.shadow if served else None

    def replace(self, loaded: LoadedBundle) -> None:
        """Serve a version with other item tables from the next request on; nothing, if it is no longer served."""
        with self._changing:
            served = self._served.get(loaded.model)
            if served is None or loaded.version not in served.loaded:
                return
            self._serve(loaded.model, replace(served, loaded={**served.loaded, loaded.version: loaded}))

    def load(self, model: str, version: str | None = None) -> LoadedBundle:
        """Make a version the stable one: the newest of its folder, or the one stated. The one before stays loaded, to go back to.

        Raises:
            UnknownModel: there is no such folder. BundleRefused: it cannot be served; nothing has changed.
            LabelsNotKept: the file of labels cannot be written; nothing has changed.
        """
        with self._changing:
            version = self._there(model, version)
            served = self._served.get(model)
            labels = served.labels.with_stable(version) if served else Labels(stable=version)
            return self._change(model, labels).stable

    def label(self, model: str, labels: Labels) -> Labels:
        """Give a model's versions other labels; those that are not loaded are, and those without one go but the last stable one.

        Raises:
            UnknownModel, BundleRefused, LabelsNotKept: as `load`.
        """
        with self._changing:
            for version in sorted(labels.versions):
                self._there(model, version)
            return self._change(model, labels).labels

    def unload(self, model: str) -> None:
        """Serve a model no longer, until it is loaded again or the scorer is started anew.

        Raises:
            UnknownModel: it is not served.
        """
        with self._changing:
            served = self.served(model)
            self._served = {name: other for name, other in self._served.items() if name != model}
            self._unloaded.add(model)
            self._forget(served, set())
            remove(self._metrics.table_version, model, served.stable.tables.version)
            remove(self._metrics.table_age, model)

    def follow(self, newest: bool) -> None:
        """Go over to labels that another process wrote; with `newest`, to newer versions of models that have no file of them,
        and to new models."""
        for version, model in _newest_first(self._folder):
            with self._changing:
                served, mark = self._served.get(model), _mark(self._folder / model / FILE)
                try:
                    if served is not None and mark is not None and mark != self._seen.get(model):
                        self._seen[model] = mark
                        if (labels := read_labels(self._folder / model)) and labels != served.labels:
                            self._change(model, labels, written=True)
                    elif newest and served is None and model not in self._unloaded:
                        self._take_up(model, version)
                    elif newest and served is not None and mark is None and self._is_new(served, model, version):
                        self._change(model, Labels(stable=version), written=True)
                except (LabelsInvalid, BundleRefused, UnknownModel) as error:
                    log.error("%s: stays as it is: %s", model, error)

    def _is_new(self, served: Served, model: str, version: str) -> bool:
        return version > max(served.loaded) and f"{model}:{version}" not in self.refused

    def say_ages(self) -> None:
        """Tell the metrics how old the item tables in use are by now."""
        for model, served in self._served.items():
            self._metrics.table_age.labels(model).set(max(time.time() - served.stable.tables.made_at, 0))

    def states(self) -> list[dict[str, str]]:
        """Every version of every model in the folder, and why those are not served that are not."""
        found = []
        for version, model in sorted(_newest_first(self._folder), key=lambda one: (one[1], one[0])):
            served, name = self._served.get(model), f"{model}:{version}"
            is_loaded = served is not None and version in served.loaded
            reason = "" if is_loaded else self.refused.get(name) or self.skipped.get(name) or "not loaded"
            found.append({"name": model, "version": version, "state": "READY" if is_loaded else "UNAVAILABLE", "reason": reason})
        return found

    def _take_up(self, model: str, version: str) -> None:
        """Serve a model by its labels; by this version, where it has none or they name what cannot be served."""
        folder = self._folder / model
        self._seen[model] = _mark(folder / FILE)
        try:
            labels = read_labels(folder)
        except LabelsInvalid as error:
            log.error("labels refused: %s", error)
            labels = None
        wanted = [labels, Labels(stable=labels.stable)] if labels else []
        for tried in (*wanted, Labels(stable=version)):
            try:
                self._change(model, tried, written=True)
                return
            except BundleRefused:
                continue  # said and counted where it was refused

    def _there(self, model: str, version: str | None) -> str:
        """A version that the model's folder has, the newest for None. Names are compared, never joined to a path unseen."""
        if model not in {name for _, name in _newest_first(self._folder)}:
            raise UnknownModel(
                f"model {model!r}: {self._folder} has {', '.join(sorted(_models(self._folder))) or 'none'}", "model"
            )
        there = versions(self._folder / model)
        if version is not None and (not VERSION_PATTERN.fullmatch(version) or version not in there):
            raise UnknownModel(f"model {model!r}, version {version!r}: {self._folder / model} has {', '.join(there)}", "version")
        return version or there[-1]

    def _change(self, model: str, labels: Labels, written: bool = False) -> Served:
        """Load what labels name and is not loaded, keep them, and serve. `written`: they stand in the file, or are not to."""
        before = self._served.get(model)
        there = dict(before.loaded) if before else {}
        loaded = {version: there.get(version) or self._load(model, version) for version in sorted(labels.versions)}
        if before is not None:
            loaded.setdefault(before.labels.stable, before.stable)  # to go back to
        if not written:
            try:
                write_labels(self._folder / model, labels)
            except OSError as error:
                raise LabelsNotKept(f"{self._folder / model / FILE}: {error}") from error
            self._seen[model] = _mark(self._folder / model / FILE)
        self._unloaded.discard(model)
        self._serve(model, served := Served(loaded, labels))
        if before is not None:
            self._forget(before, set(loaded))
        return served

    def _load(self, model: str, version: str) -> LoadedBundle:
        name, folder = f"{model}:{version}", self._folder / model / version
        try:
            manifest = read_manifest(folder)
            if manifest.data != (self.data or manifest.data):
                self.skipped[name] = f"data set {manifest.data}, this scorer serves {self.data}"
                log.info("bundle skipped: %s is of %s", name, self.skipped[name])
                raise BundleRefused(f"{name}: {self.skipped[name]}", "version")
            loaded = self._loading.load(folder)
        except BundleInvalid as error:
            log.error("bundle refused: %s", error)
            self._metrics.model_loads.labels("refused").inc()
            self.refused[name] = str(error)
            raise BundleRefused(str(error), "version") from error
        self.refused.pop(name, None)
        self._metrics.model_loads.labels("ok").inc()
        self.data = manifest.data
        return loaded

    def _serve(self, model: str, served: Served) -> None:
        """From the next request on."""
        before, metrics = self._served.get(model), self._metrics
        self._served = {**self._served, model: served}
        for version, loaded in served.loaded.items():
            metrics.model_info.labels(model, version, loaded.graph.device).set(1)
        if before is not None and before.stable.tables.version != served.stable.tables.version:
            remove(metrics.table_version, model, before.stable.tables.version)
        metrics.table_version.labels(model, served.stable.tables.version).set(1)
        self.say_ages()

    def _forget(self, before: Served, kept: set[str]) -> None:
        """Take what is no longer loaded from the metrics; its memory goes with the last request that it answers."""
        for version, loaded in before.loaded.items():
            if version not in kept:
                remove(self._metrics.model_info, loaded.model, version, loaded.graph.device)

    def _default_name(self) -> str:
        return self._default or (self.names[0] if len(self._served) == 1 else DEFAULT_MODEL)


def _models(folder: Path) -> list[str]:
    """Names of the folders that have versions."""
    return [path.name for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]


def _newest_first(folder: Path) -> list[tuple[str, str]]:
    """(version, model) of every bundle folder, newest first."""
    return sorted(((version, model) for model in _models(folder) for version in versions(folder / model)), reverse=True)


def _mark(path: Path) -> tuple[int, int] | None:
    """What tells one content of a file from another; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
