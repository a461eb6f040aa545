"""The generators of a constant rate against a server of known answers."""

import http.server
import shutil
import threading
import time

import numpy as np
import pytest

from loadtest.proofs.paced import by_ours, by_wrk

GENERATORS = [
    pytest.param(by_wrk, marks=pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed"), id="wrk"),
    pytest.param(by_ours, id="ours"),
]
REFUSED_MS = 20


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers bodies of b"1" whole and at once, of b"2" degraded, others 429 after a while."""

    protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = (200, b'{"degraded":[]}' if body == b"1" else b'{"degraded":["x"]}') if body in b"12" else (429, b"")
        if status == 429:
            time.sleep(REFUSED_MS / 1000)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.send_header("x-request-id", self.headers.get("x-request-id", "-"))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("offer", GENERATORS)
def test_a_rate_is_kept_and_each_answer_is_told_by_kind(port, offer):
    started = time.perf_counter()
    load = offer(port, [b"1", b"2", b"3"], 60, 2)
    assert load.ended_s - started == pytest.approx(2, abs=0.3)
    assert 100 <= len(load.status) <= 130
    assert np.isin(load.status, [200, 429]).all()
    third = len(load.status) / 3
    assert load.whole.sum() == pytest.approx(third, abs=3)
    assert (load.status == 429).sum() == pytest.approx(third, abs=3)
    assert not load.whole[load.status == 429].any()
    assert load.took_ms[load.status == 429].min() >= REFUSED_MS
    assert load.took_ms[load.whole].min() < REFUSED_MS
    assert (load.errors, load.cpu_s > 0) == (0, True)
