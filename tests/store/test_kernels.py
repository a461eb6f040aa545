import importlib
import pkgutil
from pathlib import Path

from numba.core.registry import CPUDispatcher

import store
from store.kernels import compile_all

ROOT = Path(__file__).parents[2]


def kernels():
    """All of the store's, by name."""
    names = [one.name for one in pkgutil.walk_packages(store.__path__, "store.") if not one.name.endswith("__main__")]
    modules = [importlib.import_module(name) for name in names]
    found = [one for module in modules for one in vars(module).values() if isinstance(one, CPUDispatcher)]
    return {f"{one.__module__}.{one.__name__}": one for one in found}


def test_every_kernel_that_python_calls_is_called():
    """Those that other kernels call come with them; the container's own count is looked at by make stack-test."""
    compile_all()
    found = kernels()
    by_kernels = {id(one.py_func.__globals__.get(name)) for one in found.values() for name in one.py_func.__code__.co_names}
    called = {name: one for name, one in found.items() if id(one) not in by_kernels}
    assert called
    assert [name for name, one in called.items() if not one.signatures] == []


def test_the_image_is_built_with_them():
    assert "NUMBA_CACHE_DIR=/app/numba python -m store.kernels" in (ROOT / "Dockerfile").read_text()
