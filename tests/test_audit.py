"""The audit of dependencies: a known vulnerability fails, an index that does not answer does not."""

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {"name": "redis", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": []}]}
UNKNOWN = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "locks" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD, UNKNOWN], 0, "1 of 2 packages looked up, 0 known vulnerabilities"),
        ([GOOD, BAD], 1, "redis 1.0: PYSEC-1, fixed in 1.1"),
        ([UNKNOWN], 0, "SKIPPED, nothing was looked up: the index knows nothing of the 1 packages"),
    ],
)
def test_what_was_found_decides(audit, capsys, packages, status, said):
    assert audit.judged(json.dumps({"dependencies": packages}), "") == status
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stderr", "status", "said"),
    [
        (
            "Traceback\nrequests.exceptions.ProxyError: no way",
            0,
            "SKIPPED, nothing was looked up: requests.exceptions.Proxy",
        ),
        ("ERROR:pip_audit._cli:requirement redis has no hash", 1, "failed: ERROR"),
        ("", 1, "failed"),
    ],
)
def test_what_failed_is_told_apart_from_nobody_at_home(audit, capsys, stderr, status, said):
    assert audit.judged("", stderr) == status
    assert said in capsys.readouterr().out


def test_an_index_that_cannot_be_reached_fails_nothing(audit, capsys, monkeypatch, tmp_path):
    for name in ("PIP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))  # what was answered before does not count
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert audit.main() == 0
    assert "SKIPPED" in capsys.readouterr().out


def test_an_index_that_hangs_fails_nothing(audit, capsys, monkeypatch):
    def hang(*_, timeout, **__):
        raise subprocess.TimeoutExpired("pip-audit", timeout)

    monkeypatch.setattr(audit.subprocess, "run", hang)
    assert audit.main() == 0
    assert "SKIPPED" in capsys.readouterr().out


def test_make_check_audits():
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "locks/audit.py" in recipe
