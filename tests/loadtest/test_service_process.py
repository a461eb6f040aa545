"""A service in a process of its own: settings, failure, CPU."""

import os
import time

import pytest

from loadtest.service_process import cpu_s, service_process


def test_cpu_is_counted_in_seconds():
    before, own, end = cpu_s(os.getpid()), time.process_time(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    assert cpu_s(os.getpid()) - before == pytest.approx(time.process_time() - own, abs=0.05)


def test_a_process_that_does_not_start_names_its_log(tmp_path):
    with (
        pytest.raises(ValueError, match=r"python -m service  does not start, see .*log"),
        service_process("", "/v2/health/ready", tmp_path / "log", CTR_NO_SUCH_SETTING="1"),
    ):
        pass
    assert "CTR_NO_SUCH_SETTING" in (tmp_path / "log").read_text()
