"""The bundles a scorer serves: several models, several versions of each, and which of them answers whom.

What is served is one dictionary that is replaced as a whole: a request takes its version from it once, and keeps it. A version is
loaded and warmed beside the others before that; one that cannot be is refused (`admission.py`), and nothing changes.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from service.admission import Admission
from service.bundle_folder import bundles_in, led_out, mark_of, models_in, versions_in
from service.errors import BundleRefused, LabelsNotKept, NoModel, UnknownModel
from service.labels import FILE, Labels, LabelsInvalid, changing, read_labels, write_labels
from service.loading import LoadedBundle, Loading
from service.metrics import Metrics
from service.shared_metrics import remove

log = logging.getLogger("longtrail")

DEFAULT_MODEL = "twin"  # where several are loaded and no setting chooses


@dataclass(frozen=True)
class Served:
    """One model: its versions that are loaded, and what they are for."""

    loaded: Mapping[str, LoadedBundle]  # by version
    labels: Labels
    before: str | None = None  # the stable version before this one: kept, to go back to

    @property
    def stable(self) -> LoadedBundle:
        """The version that answers."""
        return self.loaded[self.labels.stable]


class Bundles:
    """What is served, by model."""

    def __init__(
        self, folder: Path, data: str, default_model: str, loading: Loading, metrics: Metrics,
        at_start: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Load what the labels of every model of one data set name, else its newest good version. Nothing here raises for a
        bad bundle.

        Args:
            data: the data set to serve; empty = that of the newest good bundle.
            at_start: the newest version of each model that may be taken up without labels; None = any. Of several processes
                one that is started later must not take up what the others have not.
        """
        self._folder, self._default, self._metrics = folder, default_model, metrics
        self.admission = Admission(folder, data, loading, metrics)
        self._served: dict[str, Served] = {}
        self._changing = threading.Lock()  # one change at a time; requests never wait for it
        self._seen: dict[str, tuple[int, int] | None] = {}  # files of labels, as they were read last
        for name in led_out(folder):
            log.warning("bundles: %s is left out, it leads out of %s", name, folder)
        for model, version in bundles_in(folder):
            if model not in self._served and (at_start is None or version <= at_start.get(model, "")):
                self._take_up(model, version)

    @property
    def data(self) -> str:
        """The data set served; empty: nothing was loaded that tells."""
        return self.admission.data

    @property
    def names(self) -> list[str]:
        """Names of the models served."""
        return sorted(self._served)

    @property
    def all(self) -> list[LoadedBundle]:
        """The stable version of every model."""
        return [served.stable for _, served in sorted(self._served.items())]

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

    def get(self, asked: str | None, user_id: str | None = None) -> LoadedBundle:
        """The version that a request asks for: `name`, `name:label`, `name:version`, or the default model.

        Args:
            user_id: decides between the stable version and a canary, where neither was asked for; None = stable.

        Raises:
            NoModel: nothing is loaded.
            UnknownModel: nothing of that name, label or version; the text lists what there is.
        """
        everything = self._served
        if not everything:
            raise NoModel("no bundle is loaded" + "".join(f"; {reason}" for reason in self.admission.refused.values()))
        name, colon, which = (asked or self._default_name()).partition(":")
        if served := everything.get(name):
            version = (served.labels.of(which) or which) if colon else served.labels.answering(name, user_id)
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

    def labels_of(self, model: str) -> Labels:
        """A model's labels as all processes have them; while one is changed here, those before that.

        Raises:
            UnknownModel: it is not served.
        """
        if self._changing.acquire(blocking=False):
            try:
                if model in models_in(self._folder):
                    self._catch_up(model)
            finally:
                self._changing.release()
        return self.served(model).labels

    def load(self, model: str, version: str | None = None) -> LoadedBundle:
        """Make a version the stable one: the newest of its folder, or the one stated. The one before stays loaded, to go back to.

        Raises:
            UnknownModel: there is no such folder. BundleRefused: it cannot be served; nothing has changed.
            LabelsNotKept: the file of labels cannot be written; nothing has changed.
        """
        with self._alone(model):
            version = self._there(model, version)
            served = self._served.get(model)
            return self._change(model, served.labels.with_stable(version) if served else Labels(stable=version)).stable

    def label(self, model: str, labels: Labels) -> Labels:
        """Give a model's versions other labels. Those that are not loaded are; those without one go, but the last stable one.

        Raises:
            UnknownModel, BundleRefused, LabelsNotKept: as `load`.
        """
        with self._alone(model):
            for version in sorted(labels.versions):
                self._there(model, version)
            return self._change(model, labels).labels

    def unload(self, model: str) -> None:
        """Serve a model no longer, here, in other processes and after a start, until it is loaded again.

        Raises:
            UnknownModel: it is not served. LabelsNotKept: as `load`.
        """
        with self._alone(model):
            self.served(model)
            self._keep(model, None)
            self._end(model)

    def follow(self, newest: bool) -> None:
        """Go over to labels that another process wrote; with `newest`, to newer versions of models that have no file of them,
        and to new models. What cannot be served is refused, once, and nothing changes."""
        for model in models_in(self._folder):
            with self._changing:
                self._catch_up(model, newest)

    def say_ages(self) -> None:
        """Tell the metrics how old the item tables in use are by now."""
        for model, served in self._served.items():
            self._metrics.table_age.labels(model).set(max(time.time() - served.stable.tables.made_at, 0))

    def states(self) -> list[dict[str, str]]:
        """Every version of every model in the folder, and why those are not served that are not."""
        found = []
        for model, version in sorted(bundles_in(self._folder)):
            served = self._served.get(model)
            is_loaded = served is not None and version in served.loaded
            reason = "" if is_loaded else self.admission.reason(model, version) or "not loaded"
            found.append({"name": model, "version": version, "state": "READY" if is_loaded else "UNAVAILABLE", "reason": reason})
        return found

    def _take_up(self, model: str, version: str) -> None:
        """Serve a model by its labels; by this version, where it has none or they name what cannot be served."""
        folder = self._folder / model
        self._seen[model] = mark_of(folder / FILE)
        labels = None
        try:
            labels = read_labels(folder)
            if labels is None and self._seen[model] is not None:
                return  # it was unloaded
        except LabelsInvalid as error:
            log.error("labels refused: %s", error)
        wanted = [labels, Labels(stable=labels.stable)] if labels else []
        for tried in (*wanted, Labels(stable=version)):
            if any(self.admission.is_out(model, one) for one in tried.versions):
                continue
            try:
                self._go_over(model, tried, self._ready(model, tried))
                return
            except BundleRefused:  # said and counted where it was refused
                if self.admission.may_pass(model, tried.versions):
                    self._seen.pop(model, None)  # labels are followed once more

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        """One change of a model at a time, here and by other processes; it begins from the labels as they are now."""
        with self._changing, ExitStack() as held:
            if model in models_in(self._folder):  # else it is no part of a path
                held.enter_context(changing(self._folder / model))
                self._catch_up(model)
            yield

    def _catch_up(self, model: str, newest: bool = False) -> None:
        try:
            self._follow_labels(model)
            if newest and mark_of(self._folder / model / FILE) is None:
                self._follow_newest(model)
        except (LabelsInvalid, BundleRefused) as error:
            log.error("%s: stays as it is: %s", model, error)

    def _follow_labels(self, model: str) -> None:
        served, mark = self._served.get(model), mark_of(self._folder / model / FILE)
        if mark == self._seen.get(model):
            return
        self._seen[model], before = mark, self._seen.get(model)
        if mark is None:
            return  # it has none any more: its versions stay
        labels = read_labels(self._folder / model)
        if labels is None:
            self._end(model)
        elif not self.admission.is_time_for(model, labels.versions):
            self._seen[model] = before  # look again
        elif served is None or labels != served.labels:
            try:
                self._go_over(model, labels, self._ready(model, labels))
            except BundleRefused:
                if self.admission.may_pass(model, labels.versions):
                    self._seen[model] = before
                raise

    def _follow_newest(self, model: str) -> None:
        served = self._served.get(model)
        for version in reversed(versions_in(self._folder, model)):
            if served is not None and version <= served.labels.stable:
                return
            if not self.admission.is_out(model, version) and self.admission.is_finished(model, version):
                labels = Labels(stable=version)
                self._go_over(model, labels, self._ready(model, labels))
                return

    def _there(self, model: str, version: str | None) -> str:
        """A version that the model's folder has, the newest for None. Names are compared with what is there, and only then
        part of a path."""
        if model not in (models := models_in(self._folder)):
            raise UnknownModel(f"model {model!r}: {self._folder} has {', '.join(models) or 'none'}", "model")
        there = versions_in(self._folder, model)
        if not there or (version is not None and version not in there):
            asked = "" if version is None else f", version {version!r}"
            raise UnknownModel(f"model {model!r}{asked}: {self._folder / model} has {', '.join(there) or 'none'}", "version")
        return version or there[-1]

    def _change(self, model: str, labels: Labels) -> Served:
        """Go over to labels, and keep them for other processes and the next start."""
        ready = self._ready(model, labels)
        self._keep(model, labels)
        return self._go_over(model, labels, ready)

    def _ready(self, model: str, labels: Labels) -> dict[str, LoadedBundle]:
        """The versions that labels name, those loaded that are not."""
        served = self._served.get(model)
        there = {} if served is None else served.loaded
        return {version: there.get(version) or self.admission.load(model, version) for version in sorted(labels.versions)}

    def _keep(self, model: str, labels: Labels | None) -> None:
        path = self._folder / model / FILE
        try:
            write_labels(path.parent, labels)
        except OSError as error:
            raise LabelsNotKept(f"{path}: {error}") from error
        self._seen[model] = mark_of(path)

    def _go_over(self, model: str, labels: Labels, loaded: dict[str, LoadedBundle]) -> Served:
        """Serve these from the next request on, and keep the stable version before; the rest goes with the last request
        that it answers."""
        old = self._served.get(model)
        before = None if old is None else old.before if labels.stable == old.labels.stable else old.labels.stable
        if old is not None and before is not None:
            loaded = {before: old.loaded[before], **loaded}
        self._serve(model, served := Served(loaded, labels, before))
        if old is not None:
            self._forget(old, set(loaded))
        return served

    def _serve(self, model: str, served: Served) -> None:
        """From the next request on."""
        before, metrics = self._served.get(model), self._metrics
        self._served = {**self._served, model: served}
        for version, loaded in served.loaded.items():
            metrics.model_info.labels(model, version, loaded.graph.device).set(1)
        self._say_labels(model, before.labels if before else None, served.labels)
        if before is not None and before.stable.tables.version != served.stable.tables.version:
            remove(metrics.table_version, model, before.stable.tables.version)
        metrics.table_version.labels(model, served.stable.tables.version).set(1)
        self.say_ages()

    def _end(self, model: str) -> None:
        """Serve a model no longer."""
        served = self._served.get(model)
        if served is None:
            return
        self._served = {name: other for name, other in self._served.items() if name != model}
        self._forget(served, set())
        self._say_labels(model, served.labels, None)
        remove(self._metrics.table_age, model)
        remove(self._metrics.table_version, model, served.stable.tables.version)

    def _say_labels(self, model: str, before: Labels | None, now: Labels | None) -> None:
        """Tell the metrics which version has which label."""
        old, new = (labels.by_label if labels else {} for labels in (before, now))
        for label, version in old.items() - new.items():
            remove(self._metrics.model_label, model, label, version)
        for label, version in new.items():
            self._metrics.model_label.labels(model, label, version).set(1)

    def _forget(self, old: Served, kept: set[str]) -> None:
        """Take what is no longer loaded from the metrics."""
        for version, loaded in old.loaded.items():
            if version not in kept:
                remove(self._metrics.model_info, loaded.model, version, loaded.graph.device)

    def _default_name(self) -> str:
        return self._default or (self.names[0] if len(self._served) == 1 else DEFAULT_MODEL)
