"""Servers of other systems: found with all they started, and ended with it."""

import sys
import time

import psutil
import pytest

from loadtest.peers.process import peer_server


def test_an_orphan_belongs_to_its_server_and_ends_with_it(tmp_path):
    with peer_server(sys.executable, "tests.loadtest.peers.orphaning_peer", tmp_path, 1, b"{}", tmp_path / "log") as server:
        found = {process.name(): process for process in server.processes}
        assert "sleep" in found
        assert len(server.processes) == 2
        before = server.cpu_s()
        assert before > 0
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in found.values())


def test_what_ran_before_is_not_the_servers(tmp_path):
    own = psutil.Popen(["sleep", "600"])
    try:
        with peer_server(sys.executable, "tests.loadtest.peers.orphaning_peer", tmp_path, 1, b"{}", tmp_path / "log") as server:
            assert own.pid not in {process.pid for process in server.processes}
        assert own.is_running()
    finally:
        own.kill()
        own.wait()


def test_a_server_that_does_not_start_names_its_log_at_once(tmp_path):
    started = time.monotonic()
    with (
        pytest.raises(ValueError, match=r"loadtest.peers.nothing does not start, see .*log"),
        peer_server(sys.executable, "loadtest.peers.nothing", tmp_path, 1, b"{}", tmp_path / "log"),
    ):
        pass
    assert time.monotonic() - started < 20
    assert "No module named loadtest.peers.nothing" in (tmp_path / "log").read_text()
