"""Step 4, attend (ESU): onnxruntime over candidates and retrieved behaviours. No model is special here."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from service.cpu_graph import KernelGraph, ListGraph, WholeGraph
from service.cpu_session import CPUSession, values
from service.device import offers_cuda
from service.device_graph import DeviceGraph
from service.device_options import ON_CPU, DeviceOptions, Providers
from service.search import Searched
from service.tables import Tables
from store.bundle import ITEM_VECTOR, UPDATE, Bundle
from store.fold import AT_ONCE_BY_KERNEL, OutOfTime, State, fold, initial_state
from store.graph_inputs import GraphInputs
from store.types import Floats, Rows

Update = Callable[[Tables | None, GraphInputs], list[NDArray[Any]]]  # item tables in place of the bundle's, what to fold


@dataclass(frozen=True, slots=True)
class Attended:
    """Output of a graph."""

    logit: Floats  # [C]
    weight: Floats | None  # [C, K] attention per retrieved behaviour of each candidate's list, if asked for
    state_missing: bool = False  # there was no time to fold the behaviours after the snapshot
    index: Rows | None = None  # [C, K] what the graph itself found, with the weights


class Graph:
    """A bundle's graphs, ready to run: the one that scores, and the one that folds behaviours into a state if it has one."""

    def __init__(self, bundle: Bundle, providers: Providers, threads: int, options: DeviceOptions = ON_CPU) -> None:
        """Load.

        Raises:
            BundleInvalid: a graph cannot be loaded, its inputs are not the manifest's, or `cuda` was
                asked for and is not to be had.
        """
        manifest = bundle.manifest
        self._score = _open(bundle, providers, threads, options)
        self.device, self.takes = self._score.device, self._score.takes
        self.tolerance: float = getattr(manifest.tolerance, self.device if self._score.precision == "float32" else "float16")
        self._state = [spec.name for spec in manifest.state]
        if self._state:
            self._initial = initial_state(bundle.tables, self._state)
            self._update, self._at_once = _updating(bundle, threads)

    def run(
        self, inputs: GraphInputs, state: State | None = None, weights: bool = False, until: float = math.inf,
        tables: Tables | None = None,
    ) -> Attended:  # fmt: skip
        """Attend: float32 [C] logits, and on demand the weights.

        Args:
            state: what the retrieved behaviours are folded into, for a model that has one; None = the empty one.
            until: when folding has to be done, on the clock of perf_counter; if it is not, `state` is scored alone.
            tables: item tables that the inputs' rows are of, in place of the bundle's.
        """
        missing = False
        if self._state:
            row = inputs["retrieved_row"][inputs["retrieved_mask"]]  # [L], oldest first
            try:
                inputs = inputs | self.fold(state, row, until, tables)
            except OutOfTime:
                inputs, missing = inputs | (state or self._initial), True
        names = ["logit", *(self._score.explaining(inputs) if weights else [])]
        found = dict(zip(names, self._score.run(inputs, names, tables), strict=True))
        weight, index = (found[name][0] if name in found else None for name in ("weight", "index"))
        if weight is not None and "candidate_place" in inputs:
            weight = weight[inputs["candidate_place"][0]]
        return Attended(found["logit"][0], weight, missing, index)

    def fold(self, state: State | None, row: Rows, until: float = math.inf, tables: Tables | None = None) -> State:
        """The state after behaviours `row` int32 [L], within the tables, oldest first.

        `state`: before them, None = the empty one. `until`: on the clock of perf_counter, later it raises OutOfTime.
        `tables`: that the rows are of, in place of the bundle's.
        """
        return fold(partial(self._update, tables), state or self._initial, row, self._at_once, until)


def _open(
    bundle: Bundle, providers: Providers, threads: int, options: DeviceOptions
) -> DeviceGraph | KernelGraph | ListGraph | WholeGraph:
    """The scoring graph: on a device if there is one or its ways are asked for, else on the CPU."""
    if options.as_on_a_device or offers_cuda(providers):
        graph = DeviceGraph(bundle, providers, options)
        if options.as_on_a_device or graph.device == "cuda":
            return graph
    if bundle.between:
        return KernelGraph(bundle, threads, bundle.between)
    return (ListGraph if bundle.attends_in_lists else WholeGraph)(bundle, threads)


def _updating(bundle: Bundle, threads: int) -> tuple[Update, int | None]:
    """What folds behaviours into a state, and how many at once: on the CPU, for step by step a device would wait for us."""
    if (kernel := bundle.fold_kernel) is not None:
        return lambda tables, feed: kernel(feed, {**bundle.tables, **(tables or {})}), AT_ONCE_BY_KERNEL
    manifest = bundle.manifest
    state = [spec.name for spec in manifest.state]
    needed = {*state, "behaviour_row", ITEM_VECTOR} | {spec.name for spec in manifest.inputs} & set(bundle.tables)
    session, folded = CPUSession(bundle, UPDATE, needed, threads), [f"next_{name}" for name in state]
    return lambda tables, feed: session.run(feed, folded, values(tables)), manifest.fold_at_once


def attend(graph: Graph, searched: Searched, explain: int, deadline: float) -> Attended:
    """Run the graphs of the call's bundle. Folding may take half of the time that is left until `deadline`."""
    now = time.perf_counter()
    until = now + (deadline - now) / 2
    return graph.run(searched.inputs, searched.state, explain > 0, until, searched.tables)
