"""Graphs on a device: what is asked of onnxruntime there, and the item tables that stay there.

Settings by what is known to hurt (DECISIONS.md, 25): memory grows by what is asked for, not by doubling; convolutions, of which
there are none, are not timed; no TF32, whose 10 bits would move logits by more than golden scores allow and spoil
the whole numbers of a search; copies run in the stream of the kernels.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.device_options import DeviceOptions, Providers

Device = Literal["cuda", "cpu"]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
DTYPES = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int32)": "i4", "tensor(int64)": "i8", "tensor(uint8)": "u1",
          "tensor(bool)": "?"}  # fmt: skip
# onnxruntime has no class for it, only words: its arenas', CUDA's, those of CUDA's libraries, C++'s
NO_MEMORY = re.compile(
    r"Failed to allocate memory[\w ]*|Available memory of[\w ]*|out of memory|\w+OUT_OF_MEMORY|\w+ALLOC(?:ATION)?_FAILED"
    r"|std::bad_alloc"
)


def offers_cuda(providers: Providers) -> bool:
    """Whether CUDA is asked for, or wanted and there as far as onnxruntime was built for it."""
    return providers == "cuda" or (providers == "auto" and CUDA in onnxruntime.get_available_providers())


def chosen_providers(providers: Providers, options: DeviceOptions, capture: bool) -> list[Any]:
    """What a session is made with; operators that have no kernel on the first run on the second."""
    return [(CUDA, cuda_options(options, capture)), CPU] if offers_cuda(providers) else [CPU]


def cuda_options(options: DeviceOptions, capture: bool) -> dict[str, str]:
    """What the CUDA provider is told."""
    limit = {"gpu_mem_limit": str(options.memory_limit_mb << 20)} if options.memory_limit_mb else {}
    return limit | {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
        "use_tf32": "0",
        "enable_cuda_graph": str(int(capture)),
    }


@cache
def load_libraries() -> None:
    """CUDA's libraries that pip has installed, if it has: once, before the first session that wants them."""
    if CUDA in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()


class DeviceTables:
    """Item tables where graphs run, each once, in the types that graphs declare."""

    def __init__(self, tables: Mapping[str, NDArray[Any]]) -> None:
        self._tables = tables
        self._values: dict[tuple[str, str, Device], onnxruntime.OrtValue] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def value(self, name: str, dtype: str, device: Device) -> onnxruntime.OrtValue:
        """A table, brought to the device when it is first asked for."""
        key = (name, dtype, device)
        if key not in self._values:
            self._values[key] = on_device(self._tables[name], dtype, device)
        return self._values[key]


def no_memory(error: Exception) -> str:
    """The words of an error of onnxruntime that say that memory did not suffice, here or on the device; empty = it is another."""
    found = NO_MEMORY.search(str(error))
    return found.group().strip() if found else ""


def on_device(table: NDArray[Any], dtype: str, device: Device) -> onnxruntime.OrtValue:
    """An array as a graph declares it: 64-bit words as their bytes, floats in the graph's precision."""
    if dtype == "u1" and table.dtype.itemsize > 1:
        table = np.ascontiguousarray(table).view(np.uint8).reshape(len(table), -1)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(table, dtype), device, 0)
