"""A kernel that calls one of another file is compiled anew when that file changes: numba looks at its own file only.

So every file of kernels states a digest of the files whose kernels it calls. When one of them is edited, the test
says which digest to write; writing it is the change that numba sees.
"""

import ast
import hashlib
from pathlib import Path

import pytest

SEARCH = Path(__file__).parents[3] / "store/search"
KERNELS = sorted(path for path in SEARCH.glob("*.py") if "@njit" in path.read_text())


def called(path):
    """Files of this folder that a file imports kernels from."""
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    files = {SEARCH / f"{name.rsplit('.', 1)[-1]}.py" for name in names if name.startswith("store.search.")}
    return sorted(file for file in files if "from numba" in file.read_text())


def digest_of(files):
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def test_there_are_kernels():
    assert {path.stem for path in KERNELS} >= {"nearest", "packing", "bounds", "relevance"}


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_a_file_of_kernels_states_what_it_was_made_with(path):
    stated = [
        node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MADE_WITH"
    ]
    assert stated == [digest_of(called(path))], "write this digest into the file"
