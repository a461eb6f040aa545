"""Step 4, attend (ESU): onnxruntime over candidates and retrieved behaviours. No model is special here."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.device import CPU, offers_cuda
from service.device_graph import DeviceGraph
from service.device_options import ON_CPU, DeviceOptions, Providers
from service.parts import parts
from service.search import Searched
from service.tables import Tables
from store.bundle import GRAPH, ITEM_VECTOR, UPDATE, Bundle, BundleInvalid
from store.fold import OutOfTime, State, fold, initial_state
from store.graph_inputs import GraphInputs
from store.types import Floats, Rows


@dataclass(frozen=True, slots=True)
class Attended:
    """Output of a graph."""

    logit: Floats  # [C]
    weight: Floats | None  # [P, K] attention per retrieved behaviour, at the places of the search, if asked for
    state_missing: bool = False  # there was no time to fold the behaviours after the snapshot
    index: Rows | None = None  # [P, K] what the graph itself found, with the weights


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
        self.device, self.searches = self._score.device, self._score.searches
        self.tolerance: float = getattr(manifest.tolerance, self.device if self._score.precision == "float32" else "float16")
        self._state = [spec.name for spec in manifest.state]
        if self._state:
            needed = {*self._state, "behaviour_row", ITEM_VECTOR} | {spec.name for spec in manifest.inputs} & set(bundle.tables)
            self._update = _Session(bundle, UPDATE, needed, threads)  # step by step: a device would wait for us
            self._initial = initial_state(bundle.tables, self._state)
            self._at_once = manifest.fold_at_once

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
        found = dict(zip(names, self._score.run(inputs, names, self._score.values(tables)), strict=True))
        weight, index = (found[name][0] if name in found else None for name in ("weight", "index"))
        return Attended(found["logit"][0], weight, missing, index)

    def fold(self, state: State | None, row: Rows, until: float = math.inf, tables: Tables | None = None) -> State:
        """The state after behaviours `row` int32 [L], within the tables, oldest first.

        `state`: before them, None = the empty one. `until`: on the clock of perf_counter, later it raises OutOfTime.
        `tables`: that the rows are of, in place of the bundle's.
        """
        own, folded = self._update.values(tables), [f"next_{name}" for name in self._state]
        return fold(lambda feed: self._update.run(feed, folded, own), state or self._initial, row, self._at_once, until)


class _Session:
    """One graph in onnxruntime on the CPU, the item tables it reads bound once: requests carry row ids only."""

    device: Literal["cpu"] = "cpu"
    searches, precision = False, "float32"

    def __init__(self, bundle: Bundle, name: str, stated: set[str], threads: int) -> None:
        """`stated`: the inputs it must have. Raises BundleInvalid as `Graph`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other requests
        options.enable_mem_pattern = False  # shapes differ from request to request
        options.log_severity_level = 3
        path = bundle.folder / name
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=[CPU])
        except Exception as error:  # onnxruntime has no base class of its own
            raise BundleInvalid(f"{path}: onnxruntime cannot load it ({error})") from error
        found = {node.name for node in self._session.get_inputs()}
        if found != stated:
            raise BundleInvalid(f"{path}: inputs {sorted(found)}, the manifest says {sorted(stated)}")
        self.weighs = any(node.name == "weight" for node in self._session.get_outputs())
        self._dim = bundle.tables[ITEM_VECTOR].shape[1]
        self._request_inputs = sorted(stated - set(bundle.tables))
        self._tables = {
            table: self.value(bundle.tables[table]) for table in sorted(stated & set(bundle.tables))
        }  # fmt: skip

    def explaining(self, inputs: GraphInputs) -> list[str]:
        """Outputs that explain the logits."""
        return ["weight"] if self.weighs else []

    def value(self, table: NDArray[Any]) -> onnxruntime.OrtValue:
        """A table where the graph runs."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(table, self.device, 0)

    def values(self, tables: Tables | None) -> dict[str, onnxruntime.OrtValue]:
        """Tables of a request where the graph runs; none where it reads the bundle's."""
        return {name: self.value(table) for name, table in (tables or {}).items()}

    def run(
        self, inputs: GraphInputs, outputs: list[str], tables: Mapping[str, onnxruntime.OrtValue]
    ) -> list[NDArray[Any]]:  # fmt: skip
        """The outputs asked for; `tables` stand in place of the bound ones of their names."""
        found = [
            self._run(part, outputs, tables) for part in (parts(inputs, self._dim) if "candidate_row" in inputs else [inputs])
        ]
        return found[0] if len(found) == 1 else [np.concatenate(values, axis=1) for values in zip(*found, strict=True)]

    def _run(
        self, inputs: GraphInputs, outputs: list[str], tables: Mapping[str, onnxruntime.OrtValue]
    ) -> list[NDArray[Any]]:  # fmt: skip
        binding = self._session.io_binding()
        for name, table in self._tables.items():
            binding.bind_ortvalue_input(name, tables.get(name, table))
        for name in self._request_inputs:
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]))
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        found: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return found


def _open(bundle: Bundle, providers: Providers, threads: int, options: DeviceOptions) -> "DeviceGraph | _Session":
    """The scoring graph: on a device if there is one or its ways are asked for, else on the CPU."""
    if options.as_on_a_device or offers_cuda(providers):
        graph = DeviceGraph(bundle, providers, options)
        if options.as_on_a_device or graph.device == "cuda":
            return graph
    return _Session(bundle, GRAPH, {spec.name for spec in bundle.manifest.inputs}, threads)


def attend(graph: Graph, searched: Searched, explain: int, deadline: float) -> Attended:
    """Run the graphs of the call's bundle. Folding may take half of the time that is left until `deadline`."""
    now = time.perf_counter()
    until = now + (deadline - now) / 2
    return graph.run(searched.inputs, searched.state, explain > 0, until, searched.tables)
