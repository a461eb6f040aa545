"""Memory that a thread keeps from one search to the next: asking the system for it costs more than using it."""

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNED = 64  # bytes: of a vector, and of a line of the cache
KEPT = 64 << 20  # bytes at most that a thread keeps


class Workspace(threading.local):
    """One block of memory for each thread."""

    def __init__(self) -> None:
        self._block = np.empty(0, np.uint8)

    def arrays(self, *forms: tuple[DTypeLike, tuple[int, ...]]) -> list[NDArray[Any]]:
        """Arrays of these types and shapes, not initialised, until this thread asks again. Cost: a few us."""
        sizes = [-(-prod(shape) * np.dtype(kind).itemsize // ALIGNED) * ALIGNED for kind, shape in forms]
        block, needed = self._block, sum(sizes) + ALIGNED
        if len(block) < needed:
            block = np.empty(needed * 5 // 4, np.uint8)  # lives grow
            self._block = block if len(block) <= KEPT else self._block
        at = -block.ctypes.data % ALIGNED
        given: list[NDArray[Any]] = []
        for size, (kind, shape) in zip(sizes, forms, strict=True):
            given.append(np.frombuffer(block, kind, prod(shape), at).reshape(shape))
            at += size
        return given


def aligned(kind: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of its own that begins where a line of the cache does, not initialised: a short row is then in one line."""
    size = prod(shape) * np.dtype(kind).itemsize
    block = np.empty(size + ALIGNED, np.uint8)
    at = -block.ctypes.data % ALIGNED
    return block[at : at + size].view(kind).reshape(shape)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """The array as kernels take it, mapped or not: numba compiles for each kind it meets. A copy if not contiguous."""
    view = np.ascontiguousarray(array).view(np.ndarray)[...]
    view.flags.writeable = False
    return view
