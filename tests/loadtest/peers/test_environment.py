"""The environment of other systems: installed once, and again when the versions change. pip is a script here."""

import pytest

from loadtest.peers.environment import REQUIREMENTS, NoPeers, peer_python

PIP = '#!/bin/sh\necho "$@" >> {log}\nif [ -e {fail} ]; then echo "ERROR: No matching distribution" >&2; exit 1; fi\n'


@pytest.fixture
def environment(tmp_path):
    """A folder with a Python that notes what it is asked for, and a file of versions."""
    folder, requirements = tmp_path / "venv", tmp_path / "requirements.txt"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text(PIP.format(log=tmp_path / "asked", fail=tmp_path / "fail"))
    python.chmod(0o755)
    requirements.write_text("a==1\n")
    return folder, requirements


def test_it_is_installed_once_for_the_same_versions(environment, tmp_path):
    for _ in range(2):
        assert peer_python(*environment) == environment[0] / "bin/python"
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.endswith(f"install --quiet --disable-pip-version-check -r {environment[1]}")
    environment[1].write_text("a==2\n")
    peer_python(*environment)
    assert len((tmp_path / "asked").read_text().splitlines()) == 2


def test_what_cannot_be_installed_is_said_and_tried_again(environment, tmp_path):
    (tmp_path / "fail").touch()
    with pytest.raises(NoPeers, match=r"venv: pip cannot install .*requirements.txt: ERROR: No matching distribution"):
        peer_python(*environment)
    (tmp_path / "fail").unlink()
    peer_python(*environment)


def test_every_version_is_exact():
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if line.count("==") != 1] == []
