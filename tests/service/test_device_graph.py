"""Scores on a device, of every model: the CPU as the device, through the same buffers, buckets and bindings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.models import list_models
from service.attend import Graph, attend
from service.device_options import ON_CPU, DeviceOptions
from service.loading import LoadedBundle, golden_difference
from service.scores import respond
from service.search import search
from service.tables import MappedTables
from store.bundle import MANIFEST, Bundle, BundleInvalid, graph_file, sha256, versions
from store.life_inputs import GRAPH_SEARCHES
from tests.service.made_up_requests import made_up
from tests.service.tiny import sign_again

DEVICE, HALF = DeviceOptions(search="device"), DeviceOptions(precision="float16")
TOLERANCE = 1e-5  # of logits
SEARCHING = ["eta", "sim_soft", "twin", "twin_v2"]


@pytest.fixture(scope="module")
def graphs(world):
    """(bundle, its graph on the CPU, the same as on a device), opened once for each model."""
    made: dict[tuple[str, DeviceOptions], tuple[Bundle, Graph, Graph]] = {}

    def opened(model: str, options: DeviceOptions = DEVICE) -> tuple[Bundle, Graph, Graph]:
        if (model, options) not in made:
            folder = world.bundles / model
            bundle = Bundle(folder / versions(folder)[-1])
            made[model, options] = bundle, Graph(bundle, "cpu", 1), Graph(bundle, "cpu", 1, options)
        return made[model, options]

    return opened


def test_the_models_that_a_graph_can_search_for_are_known(graphs):
    assert [model for model in list_models() if graphs(model)[0].manifest.search.name in GRAPH_SEARCHES] == SEARCHING


@pytest.mark.parametrize("model", list_models())
@settings(max_examples=8)
@given(st.integers(1, 130), st.integers(0, 300), st.integers(0, 9))
def test_padding_to_a_bucket_changes_no_score(graphs, model, candidates, length, seed):
    bundle, plain, on_device = graphs(model)
    call, fetched = made_up(bundle, candidates, length, seed)
    expected, found = (
        graph.run(search(call, fetched, bundle, takes=takes).inputs, weights=True)
        for graph, takes in ((plain, plain.takes), (on_device, "groups"))
    )
    assert found.logit.shape == expected.logit.shape
    np.testing.assert_allclose(found.logit, expected.logit, atol=TOLERANCE)
    assert (found.weight is None) == (expected.weight is None)
    if expected.weight is not None:
        np.testing.assert_allclose(found.weight, expected.weight, atol=TOLERANCE)


@pytest.mark.parametrize("model", SEARCHING)
@settings(max_examples=12)
@given(st.integers(1, 130), st.one_of(st.integers(0, 120), st.integers(900, 2_500)), st.integers(0, 9))
def test_a_graph_that_searches_finds_and_scores_what_the_kernels_do(graphs, model, candidates, length, seed):
    bundle, plain, on_device = graphs(model)
    call, fetched = made_up(bundle, candidates, length, seed)
    there, here = (search(call, fetched, bundle, takes=graph.takes) for graph in (on_device, plain))
    expected, found = plain.run(here.inputs, weights=True), on_device.run(there.inputs, weights=True)
    kept = here.retrieved.index.shape[1]
    assert (np.where(here.retrieved.mask, here.retrieved.index, 0) == found.index[:, :kept]).all()
    assert not found.index[:, kept:].any()
    np.testing.assert_allclose(found.logit, expected.logit, atol=TOLERANCE)
    np.testing.assert_allclose(found.weight[:, :kept], expected.weight, atol=TOLERANCE)


@pytest.mark.parametrize("model", SEARCHING)
def test_explanations_are_the_same_whoever_searches(graphs, model):
    bundle, plain, on_device = graphs(model)
    for length in (0, 3, 1_500):
        call, fetched = made_up(bundle, 20, length, 1, explain=5)
        answers = []
        for graph in (plain, on_device):
            searched = search(call, fetched, bundle, takes=graph.takes)
            answers.append(respond(call, fetched, searched, attend(graph, searched, 5, math.inf), bundle))
        assert answers[0].behaviours == answers[1].behaviours == len(fetched.behaviours)
        of_plain, of_device = ([[item["ts"] for item in one] for one in answer.explanations] for answer in answers)
        assert [sorted(one) for one in of_plain] == [sorted(one) for one in of_device]


def test_clusters_are_searched_by_the_graph_as_by_the_kernels(graphs):
    bundle, plain, on_device = graphs("twin_v2")
    call, fetched = made_up(bundle, 40, 3_000, 2)
    there, here = (search(call, fetched, bundle, takes=graph.takes) for graph in (on_device, plain))
    assert there.inputs["life_size"].max() > 1
    np.testing.assert_allclose(on_device.run(there.inputs).logit, plain.run(here.inputs).logit, atol=TOLERANCE)


def test_a_life_too_long_for_the_graph_is_searched_by_the_kernels(graphs, monkeypatch):
    bundle, plain, on_device = graphs("eta")
    call, fetched = made_up(bundle, 5, 200, 3)
    monkeypatch.setattr("service.search.MAX_LIFE", 199)
    there, here = (search(call, fetched, bundle, takes=graph.takes) for graph in (on_device, plain))
    assert "life_row" not in there.inputs
    np.testing.assert_allclose(on_device.run(there.inputs).logit, plain.run(here.inputs).logit, atol=TOLERANCE)


@pytest.mark.parametrize("model", SEARCHING)
def test_tables_of_a_request_stand_in_place_of_the_bundles(graphs, model):
    bundle, _, on_device = graphs(model)
    call, fetched = made_up(bundle, 10, 100, 4)
    searched = search(call, fetched, bundle, takes="life")
    other = {name: np.roll(table, 7, axis=0) for name, table in bundle.tables.items()}
    same = {name: table.copy() for name, table in bundle.tables.items()}
    expected = on_device.run(searched.inputs).logit
    assert (on_device.run(searched.inputs, tables=same).logit == expected).all()
    assert (on_device.run(searched.inputs, tables=other).logit != expected).any()
    assert (on_device.run(searched.inputs).logit == expected).all()


def test_an_answer_does_not_change_when_the_next_request_uses_its_buffers(graphs):
    bundle, _, on_device = graphs("din")
    first, second = (search(*made_up(bundle, 64, 50, seed), bundle) for seed in (5, 6))
    logit = on_device.run(first.inputs).logit
    before = logit.copy()
    on_device.run(second.inputs)
    assert (logit == before).all()


@pytest.mark.parametrize("options", [DEVICE, HALF, DeviceOptions("device", "float16")])
@pytest.mark.parametrize("model", list_models())
def test_golden_scores_are_within_the_tolerance_of_the_precision(graphs, model, options):
    bundle, _, graph = graphs(model, options)
    half = options.precision == "float16" and not bundle.manifest.state
    assert graph.tolerance == (bundle.manifest.tolerance.float16 if half else bundle.manifest.tolerance.cpu)
    difference, _ = golden_difference(LoadedBundle(bundle, graph, MappedTables(bundle)), bundle.golden)
    assert difference <= graph.tolerance
    assert difference > 1e-7 or not half  # it was not float32


def test_logits_in_float16_are_not_rounded_to_float16(graphs):
    bundle, _, graph = graphs("din", HALF)
    logit = graph.run(search(*made_up(bundle, 64, 50, 1), bundle).inputs).logit
    assert logit.dtype == np.float32
    assert (logit != logit.astype(np.float16).astype(np.float32)).any()


@pytest.mark.parametrize(("options", "setting"), [(DEVICE, "CTR_SEARCH=device"), (HALF, "CTR_PRECISION=float16")])
def test_a_bundle_without_the_graph_is_refused_with_the_setting_that_needs_it(tiny, options, setting):
    bundle = Bundle(tiny.add("eta"))
    with pytest.raises(BundleInvalid, match=f"{setting} needs it"):
        Graph(bundle, "cpu", 1, options)


def test_a_bundle_without_the_graphs_is_served_where_no_setting_needs_them(tiny):
    assert Graph(Bundle(tiny.add("eta")), "cpu", 1, ON_CPU).takes == "groups"
    assert Graph(Bundle(tiny.add("din")), "cpu", 1, DEVICE).takes == "groups"  # nothing to search


def test_a_graph_whose_inputs_are_not_those_of_its_search_is_refused(tiny):
    folder = tiny.add("eta")
    (folder / graph_file("float32", searches=True)).write_bytes((folder / "score.onnx").read_bytes())
    sign_again(folder, files={path.name: sha256(path) for path in folder.iterdir() if path.name != MANIFEST})
    with pytest.raises(BundleInvalid, match=r"search_score\.onnx: inputs .*the manifest says .*life_row"):
        Graph(Bundle(folder), "cpu", 1, DEVICE)
