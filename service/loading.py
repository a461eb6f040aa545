"""A bundle made ready to score: opened, verified with its golden request, warmed with as many candidates as are usual."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.attend import Graph, attend
from service.behaviours import Fetched
from service.device_options import ON_CPU, DeviceOptions, Providers
from service.request import Call
from service.search import search
from service.tables import STALE, ItemTables, MappedTables, RequestTables
from store.bundle import Bundle, BundleInvalid, Golden
from store.graph_inputs import scores_of
from store.types import Candidates, Floats

WARM = 500  # candidates: the memory that a usual request needs is asked for here, which takes 20 ms, not in the first one


@dataclass(frozen=True)
class LoadedBundle:
    """A verified bundle, its graph and one version of its item tables, ready to score."""

    bundle: Bundle
    graph: Graph
    tables: ItemTables

    @property
    def model(self) -> str:
        """Its model's name."""
        return self.bundle.manifest.model

    @property
    def version(self) -> str:
        """Its version."""
        return self.bundle.manifest.version

    def tables_of(self, call: Call, fetched: Fetched, max_age_s: float = 0) -> RequestTables:
        """Item tables that hold the rows of a request; `max_age_s`: older ones are said to be stale, 0 = never."""
        found = self.tables.of_request(
            self.bundle, call.candidates, fetched.behaviours, fetched.snapshot, fetched.store_failed
        )  # fmt: skip
        if max_age_s and time.time() - self.tables.made_at > max_age_s:
            return replace(found, degraded=(*found.degraded, STALE))
        return found


@dataclass(frozen=True)
class Loading:
    """How bundles are made ready here."""

    providers: Providers
    threads: int
    options: DeviceOptions = ON_CPU

    def load(self, folder: Path) -> LoadedBundle:
        """Open a bundle, load its graph, replay its golden request, and warm it.

        Raises:
            BundleInvalid: anything that is not as the manifest says, golden scores included.
        """
        bundle = Bundle(folder)
        graph = Graph(bundle, self.providers, self.threads, self.options)
        bundle.registry.candidates([""])  # made, and its kernels compiled, on first use: here, not in the first request
        loaded = LoadedBundle(bundle, graph, MappedTables(bundle))
        golden = bundle.golden
        difference, _ = golden_difference(loaded, golden)
        if not difference <= graph.tolerance:  # NaN too
            raise BundleInvalid(f"{folder}: golden scores differ by {difference:.2g}, tolerance {graph.tolerance:.2g}")
        many = np.arange(WARM) % len(golden.scores)
        candidates = Candidates(golden.candidates.row[many], golden.candidates.category[many])
        _scored(loaded, golden.model_copy(update={"candidates": candidates}))
        return loaded


def golden_difference(loaded: LoadedBundle, golden: Golden) -> tuple[float, tuple[str, ...]]:
    """Largest difference between a golden request's scores and those it gets here, and what was missing for it.

    Raises:
        BundleInvalid: it cannot be scored.
        MemoryError: not now.
    """
    scores, missing = _scored(loaded, golden)
    if scores.shape != golden.scores.shape:  # numpy would stretch one of them
        raise BundleInvalid(
            f"{loaded.bundle.folder}: the golden request fails (scores of shape {scores.shape} for {golden.scores.shape})"
        )
    return float(np.abs(scores - golden.scores).max()), missing


def _scored(loaded: LoadedBundle, golden: Golden) -> tuple[Floats, tuple[str, ...]]:
    """Scores of a golden request's candidates, and what was missing for them; raises as `golden_difference`."""
    bundle = loaded.bundle
    call, fetched = Call("golden", golden.candidates, golden.at, golden.at, golden.context, 0, 0), Fetched(golden.behaviours)
    try:
        searched = search(call, fetched, bundle, loaded.tables_of(call, fetched), takes=loaded.graph.takes)
        return scores_of(attend(loaded.graph, searched, 0, math.inf).logit), searched.degraded
    except MemoryError:  # says nothing of the bundle, and may pass
        raise
    except Exception as error:  # onnxruntime has no base class of its own
        raise BundleInvalid(f"{bundle.folder}: the golden request fails ({error})") from error
