"""Two processes behind one address: whichever answers /metrics answers for both."""

import os
import re
import signal
import subprocess
import sys

import httpx
import psutil
import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from loadtest.proofs.system import workers_of
from service.shared_metrics import FOLDER, exposition, shared
from tests.service.serving import NOBODY, until
from tests.service.tiny import VERSION
from tests.world import running_scorer

SCORE = {"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"}
CALLS = f'ctr_requests_total{{code="200",model="din",route="/score",version="{VERSION}"}}'
MODEL = f'ctr_model_info{{model="din",provider="cpu",version="{VERSION}"}}'


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    from tests.service.tiny import Tiny

    tiny = Tiny.at(tmp_path_factory.mktemp("bundles"))
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY, workers=2) as (process, port):
        until(lambda: len(workers_of(process.pid)) == 2)
        yield process, f"http://127.0.0.1:{port}"


def scraped(url):
    """Every sample, over a connection of its own: to whichever process takes it."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def test_every_scrape_has_the_calls_of_both(running):
    _, url = running
    before = scraped(url).get(CALLS, 0)
    for _ in range(30):
        assert httpx.post(f"{url}/score", json=SCORE, timeout=30).status_code == 200
    until(lambda: scraped(url)[CALLS] >= before + 30)  # the process that is not asked counts a tenth of a second later
    assert {scraped(url)[CALLS] for _ in range(8)} == {before + 30}
    found = scraped(url)
    assert found['ctr_stage_duration_seconds_count{stage="attend"}'] == before + 30
    assert found['ctr_request_duration_seconds_bucket{code="2xx",le="+Inf",route="/score"}'] == before + 30
    assert found['ctr_degraded_total{reason="store_down"}'] == before + 30


def test_gauges_are_those_of_the_processes_that_run(running):
    _, url = running
    found = scraped(url)
    assert (found["ctr_inflight_requests"], found[MODEL]) == (0, 1)
    assert found['ctr_table_age_seconds{model="din"}'] > 0
    assert not [name for name in found if "pid=" in name]


def test_a_process_that_is_killed_takes_its_gauges_along_and_leaves_its_counts(running):
    """Stopped while it works on a call, then killed: the call stays counted as in flight in its file."""
    process, url = running
    killed = min(workers_of(process.pid))
    httpx.post(f"{url}/score", json=SCORE, timeout=30)
    before = scraped(url)[CALLS]
    os.kill(killed, signal.SIGSTOP)
    with httpx.Client(base_url=url, timeout=0.3) as client:
        for _ in range(6):  # some of them are taken by the process that stands still
            try:
                client.post("/score", json=SCORE)
            except httpx.TimeoutException:
                continue
    os.kill(killed, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(killed))  # the parent has taken leave of it
    found = until(lambda: (now := scraped(url)).get("ctr_inflight_requests") == 0 and now)
    assert found[CALLS] >= before


def test_one_process_shares_nothing():
    with shared(several=False):
        assert FOLDER not in os.environ


def test_the_folder_is_gone_when_the_processes_are():
    with shared(several=True):
        folder = os.environ[FOLDER]
        assert os.path.isdir(folder)
    assert FOLDER not in os.environ
    assert not os.path.exists(folder)


def test_a_dead_process_has_no_gauges_and_keeps_its_counters():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with shared(several=True):
        for kind, value in (("gauge_livesum", 3.0), ("counter", 5.0)):
            values = MmapedDict(f"{os.environ[FOLDER]}/{kind}_{gone.pid}.db")
            values.write_value(mmap_key(kind, f"{kind}_x", [], [], "help"), value, 0.0)
            values.close()
        text = exposition(None).decode()
    assert "gauge_livesum_x" not in text
    assert "counter_x 5.0" in text
