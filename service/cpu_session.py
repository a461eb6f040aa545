"""One graph in onnxruntime on the CPU, over item tables that are given to it as they are: requests carry row ids only."""

from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from service.device import CPU, no_memory
from service.tables import Tables
from store.bundle import Bundle, BundleInvalid
from store.graph_inputs import GraphInputs

Values = Mapping[str, onnxruntime.OrtValue]


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How onnxruntime runs a graph: with its arena, which `make bench PART=kernels` compares with other choices."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other requests
    options.enable_mem_pattern = False  # shapes differ from request to request
    options.log_severity_level = 3
    return options


class CPUSession:
    """Runs on the caller's thread, and `threads` - 1 others."""

    def __init__(self, bundle: Bundle, name: str, stated: set[str], threads: int) -> None:
        """Load a graph of a bundle.

        Args:
            stated: the inputs it must have.

        Raises:
            BundleInvalid: it cannot be loaded, or its inputs are others.
        """
        path = bundle.folder / name
        try:
            self._session = onnxruntime.InferenceSession(path, session_options(threads), providers=[CPU])
        except Exception as error:  # onnxruntime has no base class of its own
            raise BundleInvalid(f"{path}: onnxruntime cannot load it ({error})") from error
        found = {node.name for node in self._session.get_inputs()}
        if found != stated:
            raise BundleInvalid(f"{path}: inputs {sorted(found)}, the manifest says {sorted(stated)}")
        self.outputs = [node.name for node in self._session.get_outputs()]
        self._request_inputs = sorted(stated - set(bundle.tables))
        self._tables = values({name: bundle.tables[name] for name in sorted(stated & set(bundle.tables))})

    def run(self, inputs: GraphInputs, outputs: list[str], tables: Values) -> list[NDArray[Any]]:
        """The outputs asked for; `tables` stand in place of the bundle's of their names.

        Raises:
            MemoryError: not enough for a run on these inputs.
        """
        feed = {name: tables.get(name, table) for name, table in self._tables.items()}
        feed |= {name: inputs[name] for name in self._request_inputs}
        try:
            found: list[NDArray[Any]] = self._session.run(outputs, feed)
        except Exception as error:  # onnxruntime has no class of its own for this
            if said := no_memory(error):
                raise MemoryError(said) from error
            raise
        return found


def values(tables: Tables | None) -> dict[str, onnxruntime.OrtValue]:
    """Tables as the graphs take them; none where they read the bundle's."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(table, "cpu", 0) for name, table in (tables or {}).items()}
