"""What the operating system gives no more of: file descriptors, memory."""

import resource
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import numpy as np
import onnxruntime
import psutil
import pytest
from onnx import TensorProto, helper

import service.pipeline
from service.cpu_session import CPUSession
from store.bundle import GRAPH
from tests.service.serving import NOBODY, served, until
from tests.world import running_scorer

CALL = {"user_id": "u1", "item_ids": ["i1", "i2"], "model": "din"}
SPARE, CALLERS = 10, 30  # file descriptors that are left; connections that are tried


def test_without_file_descriptors_open_connections_are_served_and_others_closed_and_then_all_is_well(tiny):
    tiny.add("din")
    with running_scorer(tiny.bundles, NOBODY) as (process, port), ExitStack() as stack:
        running, url = psutil.Process(process.pid), f"http://127.0.0.1:{port}/score"
        assert httpx.post(url, json=CALL, timeout=30).status_code == 200
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (running.num_fds() + SPARE, 4096))
        callers = [stack.enter_context(httpx.Client(timeout=10)) for _ in range(CALLERS)]

        def answered(caller):
            try:
                return caller.post(url, json=CALL).status_code
            except (httpx.NetworkError, httpx.RemoteProtocolError):  # at once: no time runs out
                return 0

        first = [answered(caller) for caller in callers]
        assert 0 < first.count(200) <= SPARE + 2
        assert set(first) == {0, 200}
        assert [answered(caller) for caller, status in zip(callers, first, strict=True) if status] == [200] * first.count(200)
        for caller in callers:
            caller.close()
        until(lambda: httpx.post(url, json=CALL, timeout=30).status_code == 200, 5)
        assert process.poll() is None


def test_a_request_that_memory_does_not_suffice_for_is_refused_and_others_are_not(shared_tiny, monkeypatch):
    def hungry(graph, searched, *arguments):
        if searched.inputs["candidate_row"].size > 2:
            raise MemoryError("Unable to allocate 7.00 GiB")
        return attend(graph, searched, *arguments)

    attend = service.pipeline.attend
    monkeypatch.setattr(service.pipeline, "attend", hungry)
    with served(shared_tiny.bundles, NOBODY) as (client, app):
        refused = client.post("/score", json=CALL | {"item_ids": ["i1"] * 3})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        problem = refused.json()
        assert (problem["title"], problem["field"]) == ("not enough memory", "attend")
        assert problem["detail"] == "attend: not enough memory for this request (Unable to allocate 7.00 GiB)"
        assert client.post("/score", json=CALL).status_code == 200
        assert app.state.service.score_slots.taken == 0
        assert 'ctr_rejected_total{reason="not_enough_memory"} 1.0' in client.get("/metrics").text


def test_a_graph_on_a_device_without_memory_refuses_the_call_and_the_next_is_scored(shared_tiny):
    """From onnxruntime's own words to the answer: on the CPU, in the ways of a device."""
    with served(shared_tiny.bundles, NOBODY, search="device") as (client, app):
        assert client.post("/score", json=CALL).status_code == 200
        session = app.state.service.bundles.get("din").graph._score._plain
        own = session._session

        def out_of_memory(*_):
            session._session = own
            raise RuntimeError("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 8388608000")

        session._session = SimpleNamespace(io_binding=own.io_binding, run_with_iobinding=out_of_memory)
        refused = client.post("/score", json=CALL)
        assert (refused.status_code, refused.headers["retry-after"], refused.json()["field"]) == (503, "1", "attend")
        assert refused.json()["detail"].endswith("(Failed to allocate memory for requested buffer of size 8388608000)")
        assert client.post("/score", json=CALL).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/events"), ("GET", "/users/u1/behaviours")])
def test_memory_that_other_calls_do_not_get_is_said_too(shared_tiny, monkeypatch, method, path):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr("service.events.EventIntake.take", hungry)
    monkeypatch.setattr("service.users.UserTrees.behaviours", hungry)
    with served(shared_tiny.bundles, NOBODY) as (client, _):
        refused = client.request(method, path, json={"events": []})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["detail"] == "not enough memory for this call (none left)"


def test_a_connection_is_not_taken_over_by_another_protocol(tiny):
    """Limits of what comes before a body are HTTP's."""
    tiny.add("din")
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x" * 24}
    with running_scorer(tiny.bundles, NOBODY) as (_, port):
        answer = httpx.get(f"http://127.0.0.1:{port}/v2/health/live", headers=upgrade, timeout=30)
        assert (answer.status_code, answer.json()) == (200, {"live": True})


def test_memory_that_onnxruntime_does_not_get_is_said_as_such(din, monkeypatch):
    """Its own words: a graph that asks for four petabytes."""
    float32, int64 = TensorProto.FLOAT, TensorProto.INT64
    value, info = helper.make_tensor("size", int64, [1], [2**50]), helper.make_tensor_value_info
    nodes = [helper.make_node("Expand", ["x", "size"], ["large"]), helper.make_node("ReduceSum", ["large"], ["y"], keepdims=0)]
    graph = helper.make_graph(nodes, "hungry", [info("x", float32, [1])], [info("y", float32, [])], [value])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    hungry = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    session = CPUSession(din, GRAPH, {spec.name for spec in din.manifest.inputs}, 1)
    monkeypatch.setattr(session, "_session", hungry)
    monkeypatch.setattr(session, "_request_inputs", ["x"])
    monkeypatch.setattr(session, "_tables", {})
    with pytest.raises(MemoryError):
        session.run({"x": np.ones(1, np.float32)}, ["y"], {})
