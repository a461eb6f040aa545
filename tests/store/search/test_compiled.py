"""A kernel that calls one of another file is compiled anew when that file changes: numba looks at its own file only.

So every file of kernels states a digest of the files whose kernels it calls. When one of them is edited, the test
says which digest to write; writing it is the change that numba sees.
"""

import ast
import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KERNELS = sorted(path for path in (ROOT / "store").rglob("*.py") if "@njit" in path.read_text())


def called(path):
    """Files that a file imports kernels from."""
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    files = {ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("store.")}
    return sorted(file for file in files if file.is_file() and "from numba" in file.read_text())


def digest_of(files):
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def test_there_are_kernels():
    assert {path.stem for path in KERNELS} >= {"nearest", "packing", "bounds", "relevance", "checked_values", "leaf_order"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_a_file_of_kernels_states_what_it_was_made_with(path):
    stated = [
        node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MADE_WITH"
    ]
    assert stated == ([digest_of(called(path))] if called(path) else []), "write this digest into the file"
