"""One graph on a device: buffers that stay where they are, a bucket of shapes each, and captured CUDA graphs over them.

onnxruntime keeps captured graphs by thread and by an id that it does not compare with shapes. So all runs of a session
are those of one thread, and an id belongs to one bucket for ever. The same code runs on the CPU, which captures nothing.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.buckets import Buckets, Sizes, axes_of, crop, pad, places, sizes_of
from service.device import (
    CUDA,
    DTYPES,
    Device,
    DeviceTables,
    chosen_providers,
    load_libraries,
    no_memory,
    offers_cuda,
    on_device,
)
from service.device_options import DeviceOptions, Providers
from service.tables import Tables
from store.bundle import BundleInvalid
from store.graph_inputs import GraphInputs

log = logging.getLogger("longtrail")

LOGIT = ["logit"]
NOT_CAPTURED = -1  # onnxruntime's word for a run without a graph; 0 is reserved


class Slot:
    """Inputs and logits of one bucket at fixed places of the device, bound to each other once."""

    def __init__(self, session: onnxruntime.InferenceSession, bucket: Sizes, shapes: dict[str, tuple[int, ...]],
                 dtypes: dict[str, str], device: Device, graph_id: int) -> None:  # fmt: skip
        self.bucket, self.graph_id = bucket, graph_id
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.inputs = {name: make(shape, np.dtype(dtypes[name]).type, device, 0) for name, shape in shapes.items()}
        self._shapes, self._dtypes = shapes, dtypes
        self.logit = make((1, places(bucket)), np.float32, device, 0)
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_output("logit", self.logit)
        for name, value in self.inputs.items():
            self.binding.bind_ortvalue_input(name, value)
        self.options = run_options(graph_id)

    def fill(self, inputs: GraphInputs) -> None:
        """Bring a request's inputs to their places, padded, as the graph declares them."""
        for name, shape in self._shapes.items():
            self.inputs[name].update_inplace(pad(inputs[name], shape, self._dtypes[name]))


class DeviceSession:
    """A scoring graph in onnxruntime; item tables and buffers stay on the device."""

    def __init__(
        self, path: Path, stated: set[str], tables: DeviceTables, buckets: Buckets, providers: Providers, options: DeviceOptions
    ) -> None:
        """Load, and capture CUDA graphs for the buckets there are, the largest first.

        Raises:
            BundleInvalid: the graph cannot be loaded, its inputs are not `stated`, or CUDA was asked for and is not to be had.
            MemoryError: the device has no room for graph and tables now, beside what is loaded already.
        """
        if providers == "cuda" and CUDA not in (offered := onnxruntime.get_available_providers()):
            raise BundleInvalid(f"{path}: CTR_PROVIDERS=cuda, but onnxruntime offers {', '.join(offered)}")
        self._buckets = buckets
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        capture = options.cuda_graphs if offers_cuda(providers) else 0
        try:
            self._session, captures = self._thread.submit(_open, path, providers, options, capture > 0).result()
        except Exception as error:  # onnxruntime has no base class of its own
            raise _not_loaded(f"{path}: onnxruntime cannot load it", error) from error
        self.device: Device = "cuda" if CUDA in self._session.get_providers() else "cpu"
        if providers == "cuda" and self.device != "cuda":
            raise BundleInvalid(f"{path}: CTR_PROVIDERS=cuda, but onnxruntime cannot use CUDA here; are its libraries installed?")
        declared = {node.name: node for node in self._session.get_inputs()}
        if set(declared) != stated:
            raise BundleInvalid(f"{path}: inputs {sorted(declared)}, the manifest says {sorted(stated)}")
        self.weighs = any(node.name == "weight" for node in self._session.get_outputs())
        if strange := sorted(f"{name} {node.type}" for name, node in declared.items() if node.type not in DTYPES):
            raise BundleInvalid(f"{path}: inputs of types that no device is given: {', '.join(strange)}")
        self._dtypes = {name: DTYPES[node.type] for name, node in declared.items()}
        self._declared = {name: node.shape for name, node in declared.items() if name not in tables}
        self._names = sorted(self._declared)
        try:
            self._bound = {name: tables.value(name, self._dtypes[name], self.device) for name in sorted(stated) if name in tables}
        except Exception as error:  # onnxruntime has no base class of its own
            raise _not_loaded(f"{path}: the device cannot hold its item tables", error) from error
        self._slots: dict[tuple[int, ...], Slot] = {}
        if captures and self.device == "cuda" and not self.capture(capture):
            self._session, _ = self._thread.submit(_open, path, providers, options, False).result()  # whatever state it is in

    def capture(self, most: int) -> int:
        """Give the largest buckets, `most` of them, an id each, and run each once; how many that went well with."""
        return self._thread.submit(self._capture, most).result()

    def run(self, inputs: GraphInputs, outputs: Sequence[str], tables: Tables | None = None) -> list[NDArray[Any]]:
        """The outputs asked for, without padding; `tables` in place of those bound, by name.

        Raises:
            MemoryError: not enough on the device for this run; those after it are as before.
        """
        try:
            return self._thread.submit(self._run, inputs, list(outputs), tables or {}).result()
        except Exception as error:  # onnxruntime has no class of its own for this
            if said := no_memory(error):
                raise MemoryError(said) from error
            raise

    def _capture(self, most: int) -> int:
        letters = {letter for name in self._names for letter in axes_of(name)}
        for number, bucket in enumerate(self._buckets.all(letters)[:most], start=1):
            slot = self._slot(bucket, number)
            try:
                slot.fill({name: np.zeros(self._shape(name, bucket), self._dtypes[name]) for name in self._names})
                self._session.run_with_iobinding(slot.binding, slot.options)
            except Exception as error:  # onnxruntime has no base class of its own
                log.warning("no CUDA graph for %s: %s", bucket, error)  # too large for the memory, say
                continue
            self._slots[_key(bucket)] = slot
        return len(self._slots)

    def _run(self, inputs: GraphInputs, outputs: list[str], tables: Tables) -> list[NDArray[Any]]:
        sizes = sizes_of(inputs, self._names)
        bucket = self._buckets.bucket(sizes)
        slot = self._slots.get(_key(bucket)) or self._slot(bucket, NOT_CAPTURED)
        if self._buckets.lists(bucket):
            self._slots.setdefault(_key(bucket), slot)
        slot.fill(inputs)
        if outputs == LOGIT and not tables:
            self._session.run_with_iobinding(slot.binding, slot.options)
            found = [np.array(slot.logit.numpy())]  # on the CPU it is the buffer itself
        else:
            found = self._run_apart(slot, outputs, tables)
        return [crop(output, sizes, bucket) for output in found]

    def _run_apart(self, slot: Slot, outputs: list[str], tables: Tables) -> list[NDArray[Any]]:
        """Outside a captured graph, which has one set of outputs and of tables."""
        binding = self._session.io_binding()
        for name, value in {**slot.inputs, **self._bound}.items():
            own = on_device(tables[name], self._dtypes[name], self.device) if name in tables else value
            binding.bind_ortvalue_input(name, own)
        for name in outputs:
            binding.bind_output(name, self.device)
        self._session.run_with_iobinding(binding, run_options(NOT_CAPTURED))
        found: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return found

    def _slot(self, bucket: Sizes, graph_id: int) -> Slot:
        shapes = {name: self._shape(name, bucket) for name in self._names}
        slot = Slot(self._session, bucket, shapes, self._dtypes, self.device, graph_id)
        for name, table in self._bound.items():
            slot.binding.bind_ortvalue_input(name, table)
        return slot

    def _shape(self, name: str, bucket: Sizes) -> tuple[int, ...]:
        axes = axes_of(name)
        return tuple(bucket[letter] for letter in axes) if axes else tuple(self._declared[name])


def run_options(graph_id: int) -> onnxruntime.RunOptions:
    """Options of a run that captures or replays the graph of an id."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options


def _not_loaded(what: str, error: Exception) -> Exception:
    """What a bundle is refused with: no room says nothing of the bundle, and may pass."""
    kind = MemoryError if no_memory(error) else BundleInvalid
    return kind(f"{what} ({error})")


def _key(bucket: Sizes) -> tuple[int, ...]:
    return tuple(bucket[letter] for letter in sorted(bucket))


def _open(path: Path, providers: Providers, options: DeviceOptions, capture: bool) -> tuple[onnxruntime.InferenceSession, bool]:
    """A session, and whether it can capture graphs: one with a loop cannot, and says so when it is made."""
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads = 1
    session.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session.enable_mem_pattern = False  # it would ask for memory in the second run, while a graph is captured
    session.log_severity_level = 3
    load_libraries()
    for captures in (True, False) if capture else (False,):
        try:
            chosen = chosen_providers(providers, options, captures)
            return onnxruntime.InferenceSession(path, session, providers=chosen), captures
        except Exception as error:  # onnxruntime has no base class of its own
            if not captures:
                raise
            log.info("%s runs without CUDA graphs: %s", path, error)
    raise AssertionError("the last attempt returns or raises")
