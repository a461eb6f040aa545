"""The code of a commit beside that of the working tree: a folder of its own, and its scorer as a process."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.speed.point import RunningScorer

COMMAND = "bench-scorer"


def tree_of(commit: str, folder: Path) -> Path:
    """Where a commit's files are: `folder`/its hash, made once, whole or not at all.

    Raises:
        ValueError: the repository around the working directory does not have the commit.
    """
    full = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").decode().strip()
    if not full:
        raise ValueError(f"{commit}: no commit of this copy of the repository; --against takes another")
    tree = folder / full[:12]
    if tree.is_dir():
        return tree
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / "tree"
        made.mkdir()
        subprocess.run(["tar", "--extract", "--directory", made], input=_git("archive", "--format=tar", full), check=True)
        made.rename(tree)
    return tree


@contextmanager
def scorer_of(tree: Path) -> Iterator[RunningScorer]:
    """What `python -m loadtest bench-scorer` of these files starts, with this interpreter's packages; it ends with the block.

    Raises:
        ValueError: it ends before it has said its process and port; why is on stderr.
    """
    command = [sys.executable, "-m", "loadtest", COMMAND]
    process = subprocess.Popen(command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise ValueError(f"{tree}: `python -m loadtest {COMMAND}` ended with status {process.wait()}")
        yield RunningScorer(**json.loads(said))
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _git(*command: str) -> bytes:
    """What git writes; nothing where it fails or is not there."""
    try:
        return subprocess.run(["git", *command], capture_output=True).stdout
    except FileNotFoundError:
        return b""
