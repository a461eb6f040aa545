"""Which buckets have a graph of their own, and what runs where: on the CPU, which takes the ids and captures nothing."""

import threading
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.behaviours import Fetched
from service.buckets import Buckets
from service.device import DeviceTables
from service.device_options import ON_CPU, DeviceOptions
from service.device_session import NOT_CAPTURED, DeviceSession
from service.loading import Loading
from service.search import search
from store.bundle import GRAPH, BundleInvalid
from tests.service.tiny import K, expected

ITEMS = ["i1", "i2", "i3", "i4", "i5", "i6"]
STEPS = (2, 4)


class Recorded:
    """A session that notes the ids, shapes and threads of its runs."""

    def __init__(self, session):
        self._session, self.runs, self.threads = session, [], set()

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, binding, options):
        self._session.run_with_iobinding(binding, options)
        shape = tuple(binding.get_outputs()[0].shape())
        self.runs.append((int(options.get_run_config_entry("gpu_graph_id")), shape))
        self.threads.add(threading.get_ident())


def session_of(bundle, most=0):
    stated = {spec.name for spec in bundle.manifest.inputs}
    buckets = Buckets.of(bundle, candidates=STEPS)
    session = DeviceSession(bundle.folder / GRAPH, stated, DeviceTables(bundle.tables), buckets, "cpu", ON_CPU)
    session._session = Recorded(session._session)
    if most:
        session.capture(most)
    return session


def inputs_of(tiny, bundle, count):
    return search(tiny.call(bundle, (ITEMS * 2)[:count]), Fetched(tiny.history()), bundle).inputs


def test_nothing_is_captured_where_there_is_no_cuda(shared_tiny, din):
    session = session_of(din)
    session.run(inputs_of(shared_tiny, din, 3), ["logit"])
    assert session._session.runs == [(NOT_CAPTURED, (1, 4))]


def test_buckets_get_ids_from_one_up_the_largest_first_and_no_more_than_are_asked_for(din):
    assert session_of(din, most=9)._session.runs == [(1, (1, 4)), (2, (1, 2))]
    session = session_of(din, most=1)
    assert session._session.runs == [(1, (1, 4))]


@settings(max_examples=20)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=8))
def test_an_id_is_never_used_for_two_shapes(shared_tiny, din, most, requests):
    session = session_of(din, most)
    for count, explained in requests:
        inputs = inputs_of(shared_tiny, din, count)
        found = session.run(inputs, ["logit", "weight"] if explained else ["logit"])
        assert [output.shape for output in found] == [(1, count), (1, count, K)][: 1 + explained]
    runs = [run for run in session._session.runs if run[0] != NOT_CAPTURED]
    assert all((first[0] == second[0]) == (first[1] == second[1]) for first, second in product(runs, runs))
    assert {number for number, _ in runs} <= {1, 2}


def test_what_was_captured_is_replayed_for_its_bucket_and_for_logits_only(shared_tiny, din):
    session = session_of(din, most=1)  # of four places
    session._session.runs.clear()
    for count in (1, 2, 3, 4, 5):
        session.run(inputs_of(shared_tiny, din, count), ["logit"])
    session.run(inputs_of(shared_tiny, din, 3), ["logit", "weight"])
    tables = {"item_vector": din.tables["item_vector"][:8].copy()}
    session.run(inputs_of(shared_tiny, din, 3), ["logit"], tables)
    assert [number for number, _ in session._session.runs] == [-1, -1, 1, 1, -1, -1, -1]


def test_all_runs_are_those_of_one_thread_whoever_asks(shared_tiny, din):
    session, inputs = session_of(din, most=2), inputs_of(shared_tiny, din, 3)
    askers = [threading.Thread(target=session.run, args=(inputs, ["logit"])) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(session._session.runs) == 2 + len(askers)
    assert len(session._session.threads) == 1
    assert threading.get_ident() not in session._session.threads


def test_buffers_stay_where_they_are(shared_tiny, din):
    session = session_of(din)
    for count in (3, 4, 3):
        session.run(inputs_of(shared_tiny, din, count), ["logit"])
    (slot,) = session._slots.values()
    places = {name: value.data_ptr() for name, value in slot.inputs.items()}
    session.run(inputs_of(shared_tiny, din, 4), ["logit"])
    assert places == {name: value.data_ptr() for name, value in slot.inputs.items()}


def test_shapes_beyond_the_steps_are_scored_and_no_buffers_kept(shared_tiny, din):
    session = session_of(din)
    call = shared_tiny.call(din, ITEMS)
    searched = search(call, Fetched(shared_tiny.history()), din)
    (logit,) = session.run(searched.inputs, ["logit"])
    assert session._session.runs == [(NOT_CAPTURED, (1, 8))]
    assert not session._slots
    np.testing.assert_allclose(1 / (1 + np.exp(-logit[0])), expected(shared_tiny, din, call, shared_tiny.history()), atol=1e-6)


def test_buckets_that_cannot_be_captured_are_scored_without(shared_tiny, din, caplog):
    session = session_of(din)
    run = session._session.run_with_iobinding

    def out_of_memory(binding, options):
        if binding.get_outputs()[0].shape() == [1, 4]:
            raise RuntimeError("out of memory")
        run(binding, options)

    session._session.run_with_iobinding = out_of_memory
    assert session.capture(9) == 1
    assert "out of memory" in caplog.text
    session._session.run_with_iobinding = run
    session._session.runs.clear()
    for count in (2, 3):
        assert session.run(inputs_of(shared_tiny, din, count), ["logit"])[0].shape == (1, count)
    assert session._session.runs == [(2, (1, 2)), (NOT_CAPTURED, (1, 4))]


NO_MEMORY = [
    "Error in execution: Non-zero status code returned while running MatMul node. Status Message: bfc_arena.cc:360 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 8388608000",
    "Error in execution: bfc_arena.cc:334 Available memory of 100 is smaller than requested bytes of 8388608000",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=scorer ; file=cuda_allocator.cc ; expr=cudaMalloc((void**)&p, size);",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=scorer ; expr=cublasCreate(&cublas_handle_);",
    "Error in execution: Non-zero status code returned while running If node. Status Message: std::bad_alloc",
]


@pytest.mark.parametrize("said", NO_MEMORY, ids=lambda said: said[-30:])
def test_a_device_without_memory_is_said_as_such_and_the_session_scores_on(shared_tiny, din, monkeypatch, said):
    session = session_of(din)
    run = session._session.run_with_iobinding

    def out_of_memory(binding, options):
        if binding.get_outputs()[0].shape() == [1, 4]:
            raise RuntimeError(said)
        run(binding, options)

    (before,) = session.run(inputs_of(shared_tiny, din, 2), ["logit"])
    session._session.run_with_iobinding = out_of_memory
    with pytest.raises(MemoryError) as caught:
        session.run(inputs_of(shared_tiny, din, 4), ["logit"])
    assert ".cc" not in str(caught.value)
    np.testing.assert_array_equal(session.run(inputs_of(shared_tiny, din, 2), ["logit"])[0], before)
    session._session.run_with_iobinding = run
    assert session.run(inputs_of(shared_tiny, din, 4), ["logit"])[0].shape == (1, 4)


def test_buffers_that_a_device_has_no_memory_for_are_said_as_such_and_made_when_there_is(shared_tiny, din, monkeypatch):
    session = session_of(din)
    with monkeypatch.context() as patch:
        patch.setattr("service.device_session.Slot", lambda *_: (_ for _ in ()).throw(RuntimeError(NO_MEMORY[0])))
        with pytest.raises(MemoryError, match="Failed to allocate memory for requested buffer of size 8388608000"):
            session.run(inputs_of(shared_tiny, din, 4), ["logit"])
    assert session.run(inputs_of(shared_tiny, din, 4), ["logit"])[0].shape == (1, 4)


def test_other_errors_of_a_run_stay_what_they_are(shared_tiny, din):
    session = session_of(din)
    session._session.run_with_iobinding = lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA failure 700: illegal address"))
    with pytest.raises(RuntimeError, match="illegal address"):
        session.run(inputs_of(shared_tiny, din, 4), ["logit"])


def test_the_service_is_told_what_a_graph_lacks(din):
    stated = {spec.name for spec in din.manifest.inputs} | {"recent_row"}
    with pytest.raises(ValueError, match=r"score\.onnx: inputs .*the manifest says .*recent_row"):
        DeviceSession(din.folder / GRAPH, stated, DeviceTables(din.tables), Buckets.of(din), "cpu", ON_CPU)


def test_tables_too_large_for_the_device_are_no_fault_of_the_bundle(din, monkeypatch):
    monkeypatch.setattr("service.device.on_device", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(MemoryError, match=r"score\.onnx: the device cannot hold its item tables \(out of memory\)"):
        session_of(din)
    monkeypatch.setattr("service.device.on_device", lambda *_: (_ for _ in ()).throw(RuntimeError("no such type")))
    with pytest.raises(BundleInvalid, match=r"score\.onnx: the device cannot hold its item tables \(no such type\)"):
        session_of(din)


def test_an_input_of_a_type_without_an_array_is_a_bundle_that_is_refused(din, monkeypatch):
    monkeypatch.setattr("service.device_session.DTYPES", {"tensor(float)": "f4", "tensor(bool)": "?"})
    with pytest.raises(BundleInvalid, match=r"candidate_row tensor\(int32\)"):
        session_of(din)


def test_a_golden_request_that_memory_does_not_suffice_for_is_no_fault_of_the_bundle(din, monkeypatch):
    def without(error):
        monkeypatch.setattr(DeviceSession, "_run", lambda *_: (_ for _ in ()).throw(RuntimeError(error)))
        return Loading("cpu", 1, DeviceOptions(search="device"))

    with pytest.raises(MemoryError, match="Failed to allocate memory"):
        without(NO_MEMORY[0]).load(din.folder)
    with pytest.raises(BundleInvalid, match=r"the golden request fails \(illegal address\)"):
        without("illegal address").load(din.folder)
