"""Spans as a collector gets them: a real HTTP server that parses the protobuf."""

import gzip
import itertools
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from service.calls import Service
from service.metrics import STAGES
from service.settings import Settings
from tests.service.serving import NOBODY, served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes spans until it is closed."""

    def __init__(self):
        self.spans, self.resources = [], []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append({one.key: one.value.string_value for one in of_resource.resource.attributes})
                    collector.spans += [span for scope in of_resource.scope_spans for span in scope.spans]
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def roots(self):
        return [span for span in self.spans if span.name.startswith("POST")]


@pytest.fixture
def collector():
    one = Collector()
    yield one
    one.close()


def ask(tiny, store_url, collector, calls, share=1.0):
    """Send calls of (fields, headers) to a scorer that sends spans, and end it, so that all of them are sent."""
    with served(tiny.bundles, store_url, traces_url=collector.url, traces_share=share) as (client, _):
        body = {"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"}
        return [client.post("/score", json=body | fields, headers=headers) for fields, headers in calls]


def attributes(span):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_call_is_one_span_with_its_stages_below_it(shared_tiny, store_url, collector):
    ask(shared_tiny, store_url, collector, [({"request_id": "r1"}, {})])
    (root,) = collector.roots()
    stages = [span for span in collector.spans if span.parent_span_id == root.span_id]
    assert [span.name for span in sorted(stages, key=lambda span: span.start_time_unix_nano)] == list(STAGES)
    for one, following in itertools.pairwise(stages):
        assert one.end_time_unix_nano == following.start_time_unix_nano
    assert stages[0].start_time_unix_nano == root.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == pytest.approx(root.end_time_unix_nano, abs=10)
    assert collector.resources[0]["service.name"] == "longtrail"
    found = attributes(root)
    assert (found["http.route"], found["http.response.status_code"], found["ctr.model"]) == ("/score", 200, "din")
    assert (found["ctr.candidates"], found["ctr.request_id"]) == (2, "r1")


def test_nothing_in_a_span_names_the_user(shared_tiny, store_url, collector):
    ask(shared_tiny, store_url, collector, [({"user_id": "somebody-7"}, {})])
    assert collector.roots()
    assert b"somebody-7" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_the_caller_is_the_parent_and_decides_whether_spans_are_kept(shared_tiny, store_url, collector):
    calls = [({}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}), ({}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}), ({}, {})]
    ask(shared_tiny, store_url, collector, calls, share=0.0)
    (root,) = collector.roots()
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)


def test_a_traceparent_that_is_none_is_not_the_callers_error(shared_tiny, store_url, collector):
    (answer,) = ask(shared_tiny, store_url, collector, [({}, {"traceparent": "00-zz"})])
    assert answer.status_code == 200
    assert collector.roots()[0].parent_span_id == b""


def test_a_call_that_failed_is_an_error_and_has_the_stages_that_it_came_to(shared_tiny, store_url, collector):
    (answer,) = ask(shared_tiny, store_url, collector, [({"timeout_ms": 0.001}, {})])
    assert answer.status_code == 504
    (root,) = collector.roots()
    assert (root.status.code, root.status.message) == (2, "deadline exceeded")
    assert "attend" not in {span.name for span in collector.spans}


def test_a_collector_that_is_away_is_no_error_of_a_call(shared_tiny, store_url, collector, monkeypatch):
    monkeypatch.setattr("service.traces.SEND_S", 0.2)
    collector.close()
    (answer,) = ask(shared_tiny, store_url, collector, [({}, {})])
    collector.__init__()
    assert answer.status_code == 200


def test_a_scorer_without_the_setting_does_without_the_library():
    code = "import sys, service.app; assert 'service.traces' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_setting_without_the_library_says_what_to_install(shared_tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "service.traces", None)
    with pytest.raises(ValueError, match=r"longtrail\[traces\]"):
        Service(Settings(bundles=shared_tiny.bundles, traces_url="http://127.0.0.1:1/v1/traces"), NOBODY)
