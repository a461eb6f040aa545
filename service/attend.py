"""Step 4, attend (ESU): onnxruntime over candidates and retrieved behaviours. No model is special here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime

from store.bundle import GRAPH, ITEM_VECTOR, Bundle, BundleInvalid
from store.graph_inputs import GraphInputs
from store.types import Floats

Providers = Literal["auto", "cpu", "cuda"]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Attended:
    """Output of a graph, at the places of the search."""

    logit: Floats  # [P]
    weight: Floats | None  # [P, K] attention per retrieved behaviour, if asked for


class Graph:
    """A bundle's graph in a session, its item table bound once: requests carry row ids only."""

    def __init__(self, bundle: Bundle, providers: Providers, threads: int) -> None:
        """Load.

        Raises:
            BundleInvalid: the graph cannot be loaded, its inputs are not the manifest's, or `cuda` was
                asked for and is not to be had.
        """
        wanted = _providers(providers)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other requests
        options.enable_mem_pattern = False  # shapes differ from request to request
        options.log_severity_level = 3
        path = bundle.folder / GRAPH
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # onnxruntime has no base class of its own
            raise BundleInvalid(f"{path}: onnxruntime cannot load it ({error})") from error
        self.device: Literal["cuda", "cpu"] = "cuda" if CUDA in self._session.get_providers() else "cpu"
        if providers == "cuda" and self.device != "cuda":
            raise BundleInvalid(f"{path}: CTR_PROVIDERS=cuda, but onnxruntime offers {onnxruntime.get_available_providers()}")
        found = {node.name for node in self._session.get_inputs()}
        stated = {spec.name for spec in bundle.manifest.inputs}
        if found != stated:
            raise BundleInvalid(f"{path}: inputs {sorted(found)}, the manifest says {sorted(stated)}")
        self._request_inputs = sorted(stated - {ITEM_VECTOR})
        self._item_vector = onnxruntime.OrtValue.ortvalue_from_numpy(bundle.tables[ITEM_VECTOR], self.device, 0)

    def run(self, inputs: GraphInputs, weights: bool = False) -> Attended:
        """Attend: float32 [P] logits, and on demand the weights."""
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(ITEM_VECTOR, self._item_vector)
        for name in self._request_inputs:
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]))
        outputs = ["logit", "weight"] if weights else ["logit"]
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        logit, *weight = binding.copy_outputs_to_cpu()
        return Attended(logit[0], weight[0][0] if weight else None)


def _providers(providers: Providers) -> list[str]:
    if providers == "cpu" or CUDA not in onnxruntime.get_available_providers():
        return [CPU]
    return [CUDA, CPU]


def attend(graph: Graph, inputs: GraphInputs, explain: int) -> Attended:
    """Run the graph of the call's bundle."""
    return graph.run(inputs, weights=explain > 0)
