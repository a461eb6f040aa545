"""The code of a commit beside that of the working tree: a real repository, a real process."""

import subprocess
import time
from dataclasses import fields
from pathlib import Path

import pytest

from loadtest.__main__ import app
from loadtest.speed.earlier_code import COMMAND, scorer_of, tree_of
from loadtest.speed.point import RunningScorer

SAYS = """
import json, os, pathlib, sys
assert sys.argv[1:] == ["bench-scorer"], sys.argv
from other import ANSWER
print(json.dumps({"pid": os.getpid(), "port": ANSWER}), flush=True)
sys.stdin.read()
pathlib.Path("ended").touch()
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits; the answer of the first is 1, of the second 2, of the working tree 3."""
    root = tmp_path / "repository"
    (root / "loadtest").mkdir(parents=True)
    (root / "loadtest" / "__main__.py").write_text(SAYS)
    monkeypatch.chdir(root)
    git("init", "-q")
    for answer in (1, 2):
        Path("other.py").write_text(f"ANSWER = {answer}")
        git("add", ".")
        git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", f"{answer}")
    Path("other.py").write_text("ANSWER = 3")
    return root


def git(*command: str):
    subprocess.run(["git", *command], check=True)


def test_a_commit_runs_its_own_code_beside_the_working_trees(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    tree = tree_of("HEAD~1", tmp_path / "earlier")
    with scorer_of(tree) as earlier, scorer_of(Path.cwd()) as now:
        assert (earlier.port, now.port) == (1, 3)
    assert (tree / "ended").exists()


def test_a_tree_is_made_once_and_named_by_its_whole_commit(repository, tmp_path):
    tree = tree_of("HEAD", tmp_path / "earlier")
    made = (tree / "other.py").stat().st_mtime_ns
    time.sleep(0.01)
    assert tree_of("HEAD", tmp_path / "earlier") == tree
    assert (tree / "other.py").stat().st_mtime_ns == made
    assert [path.name for path in (tmp_path / "earlier").iterdir()] == [tree.name]
    assert tree_of("HEAD~1", tmp_path / "earlier") != tree


@pytest.mark.parametrize("commit", ["0123456", "nothing", "--help", "", "HEAD:other.py"])
def test_a_commit_that_is_not_there_is_an_error_and_leaves_nothing(repository, tmp_path, commit):
    with pytest.raises(ValueError, match="no commit of this copy of the repository; --against takes another"):
        tree_of(commit, tmp_path / "earlier")
    assert not (tmp_path / "earlier").exists()


def test_a_commit_without_the_command_is_an_error(repository, tmp_path):
    (repository / "loadtest" / "__main__.py").write_text("raise SystemExit(2)")
    with pytest.raises(ValueError, match=r"`python -m loadtest bench-scorer` ended with status 2"), scorer_of(repository):
        pass


def test_the_command_and_its_answer_keep_their_names():
    """The code of a later commit asks for them."""
    assert COMMAND in {command.name for command in app.registered_commands}
    assert [field.name for field in fields(RunningScorer)] == ["pid", "port"]
