import math

import numpy as np
import onnxruntime
import pytest

from service import attend
from service.attend import Graph
from service.behaviours import Fetched
from service.device import CUDA
from service.search import search
from store.bundle import GRAPH, Bundle, BundleInvalid
from store.graph_inputs import scores_of
from store.types import Behaviours
from tests.service.tiny import expected, sign_again

HAS_CUDA = CUDA in onnxruntime.get_available_providers()
ITEMS = ["i1", "i2", "i3", "i4", "i5", "i6", "new"]


def bundle_with(tiny, model="din", **changes):
    folder = tiny.add(model)
    sign_again(folder, **changes)
    return Bundle(folder)


def stated_inputs(bundle, *without, add=()):
    return [spec.model_dump() for spec in bundle.manifest.inputs if spec.name not in without] + [
        {"name": name, "dtype": "int32", "axes": ["U"]} for name in add
    ]


@pytest.mark.parametrize("model", ["din", "sim_hard"])
@pytest.mark.parametrize("history", ["some", "none"])
def test_scores_are_those_computed_by_hand(shared_tiny, request, model, history):
    bundle = request.getfixturevalue(model)
    behaviours = shared_tiny.history() if history == "some" else Behaviours.empty(1)
    call = shared_tiny.call(bundle, ITEMS)
    searched = search(call, Fetched(behaviours), bundle)
    logit = Graph(bundle, "cpu", 1).run(searched.inputs).logit
    scores = scores_of(logit)
    np.testing.assert_allclose(scores, expected(shared_tiny, bundle, call, behaviours), atol=1e-6)


def test_weights_are_computed_only_on_demand(shared_tiny, din, din_graph):
    searched = search(shared_tiny.call(din, ITEMS), Fetched(shared_tiny.history()), din)
    assert attend.attend(din_graph, searched, explain=0, deadline=math.inf).weight is None
    assert attend.attend(din_graph, searched, explain=1, deadline=math.inf).weight.shape == (len(ITEMS), 3)


def test_weights_do_not_change_the_logits(shared_tiny, din, din_graph):
    inputs = search(shared_tiny.call(din, ITEMS), Fetched(shared_tiny.history()), din).inputs
    assert (din_graph.run(inputs).logit == din_graph.run(inputs, weights=True).logit).all()


def test_weights_of_a_candidate_sum_to_one(shared_tiny, din, din_graph):
    weight = din_graph.run(search(shared_tiny.call(din, ITEMS), Fetched(shared_tiny.history()), din).inputs, weights=True).weight
    np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)


def test_an_input_that_the_manifest_does_not_state_is_refused(tiny, din):
    bundle = bundle_with(tiny, inputs=stated_inputs(din, "context"))
    with pytest.raises(BundleInvalid, match=r"score\.onnx: inputs .*context.*, the manifest says "):
        Graph(bundle, "cpu", 1)


def test_an_input_that_the_graph_does_not_have_is_refused(tiny, din):
    bundle = bundle_with(tiny, inputs=stated_inputs(din, add=["recent_row"]))
    with pytest.raises(BundleInvalid, match=r"score\.onnx: inputs .*the manifest says .*recent_row"):
        Graph(bundle, "cpu", 1)


def test_bytes_that_are_no_graph_are_refused(tiny):
    folder = tiny.add("din")
    (folder / GRAPH).write_bytes(b"no graph")
    sign_again(folder)
    with pytest.raises(BundleInvalid, match=r"score\.onnx: onnxruntime cannot load it"):
        Graph(Bundle(folder), "cpu", 1)


def test_cpu_is_used_when_asked_for(din_graph):
    assert din_graph.device == "cpu"


@pytest.mark.skipif(HAS_CUDA, reason="needs an onnxruntime without CUDA")
def test_auto_is_cpu_where_there_is_no_cuda(din):
    assert Graph(din, "auto", 1).device == "cpu"


@pytest.mark.skipif(HAS_CUDA, reason="needs an onnxruntime without CUDA")
def test_cuda_that_is_not_to_be_had_is_refused_with_what_there_is(din):
    with pytest.raises(BundleInvalid, match=r"CTR_PROVIDERS=cuda.*CPUExecutionProvider"):
        Graph(din, "cuda", 1)


def test_one_graph_serves_requests_of_different_shapes(shared_tiny, din, din_graph):
    for count in (1, 7, 3):
        for behaviours in (shared_tiny.history(), Behaviours.empty(1), shared_tiny.history((("i1", 5, 1),))):
            call = shared_tiny.call(din, ITEMS[:count])
            logit = din_graph.run(search(call, Fetched(behaviours), din).inputs).logit
            np.testing.assert_allclose(1 / (1 + np.exp(-logit)), expected(shared_tiny, din, call, behaviours), atol=1e-6)
