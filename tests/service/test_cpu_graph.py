"""A bundle's graphs on the CPU: around the kernel they are what the whole graph is."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.models import list_models
from service.attend import Graph, attend
from service.cpu_graph import KernelGraph, ListGraph, WholeGraph
from service.scores import respond
from service.search import search
from store.between import PAIRS, ROW, SUMS
from store.bundle import AFTER, BEFORE, MANIFEST, MEMORY, Bundle, BundleInvalid, sha256, versions
from tests.service.made_up_requests import made_up
from tests.service.tiny import sign_again

IN_LISTS = ["eta", "sim_hard", "sim_soft", "twin", "twin_v2"]
AROUND_A_KERNEL = {"bst": ROW, "din": PAIRS, "dmin": PAIRS}
OF_A_STATE = {"sdim": SUMS}


def bundle_of(world, model):
    folder = world.bundles / model
    return Bundle(folder / versions(folder)[-1])


def signed_anew(folder):
    sign_again(folder, files={path.name: sha256(path) for path in folder.iterdir() if path.name != MANIFEST})
    return Bundle(folder)


def copied(bundle, folder):
    """A copy that may be changed."""
    return Path(shutil.copytree(bundle.folder, folder / bundle.manifest.model / bundle.manifest.version))


def test_these_models_attend_in_lists(world):
    assert [model for model in list_models() if bundle_of(world, model).attends_in_lists] == IN_LISTS
    assert Graph(bundle_of(world, "eta"), "cpu", 1).takes == "lists"
    assert Graph(bundle_of(world, "din"), "cpu", 1).takes == "groups"


def test_these_models_have_graphs_around_a_kernel(world):
    found = {model: bundle_of(world, model).between for model in list_models()}
    assert {model: between for model, between in found.items() if between} == AROUND_A_KERNEL | OF_A_STATE
    assert isinstance(Graph(bundle_of(world, "din"), "cpu", 1)._score, KernelGraph)


@pytest.mark.parametrize("length", [0, 1, 7, 90])
@pytest.mark.parametrize("candidates", [1, 33, 60])
@pytest.mark.parametrize("model", AROUND_A_KERNEL)
def test_around_a_kernel_scores_and_weights_are_those_of_the_whole_graph(world, model, length, candidates):
    bundle = bundle_of(world, model)
    inputs = search(*made_up(bundle, candidates, length, seed=3, explain=4), bundle).inputs
    expected, expected_weight = WholeGraph(bundle, 1).run(inputs, ["logit", "weight"], None)
    found, weight = KernelGraph(bundle, 1, AROUND_A_KERNEL[model]).run(inputs, ["logit", "weight"], None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(weight, expected_weight, atol=2e-6)


@pytest.mark.parametrize("length", [0, 1, 7, 90])
@pytest.mark.parametrize("candidates", [1, 33, 60])
@pytest.mark.parametrize("model", OF_A_STATE)
def test_a_kernel_reads_a_state_as_the_whole_graph_does(world, model, length, candidates):
    bundle = bundle_of(world, model)
    inputs = search(*made_up(bundle, candidates, length, seed=3), bundle).inputs
    inputs |= Graph(bundle, "cpu", 1).fold(None, inputs["retrieved_row"][inputs["retrieved_mask"]])
    graph = KernelGraph(bundle, 1, OF_A_STATE[model])
    assert graph.explaining(inputs) == []
    others = {name: np.roll(bundle.tables[name], 1, axis=0) for name in ("bucket", "item_vector")}
    seen = []
    for tables in (None, others):
        (expected,) = WholeGraph(bundle, 1).run(inputs, ["logit"], tables)
        np.testing.assert_allclose(graph.run(inputs, ["logit"], tables)[0], expected, atol=1e-5)
        seen.append(expected)
    assert not np.allclose(*seen, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 90, 700])
@pytest.mark.parametrize("model", IN_LISTS)
def test_scores_and_weights_are_those_of_the_whole_graph(world, model, length):
    bundle = bundle_of(world, model)
    call, fetched = made_up(bundle, 60, length, seed=3, explain=4)
    in_groups, in_lists = (search(call, fetched, bundle, takes=takes) for takes in ("groups", "lists"))
    expected, expected_weight = WholeGraph(bundle, 1).run(in_groups.inputs, ["logit", "weight"], None)
    found, weight = ListGraph(bundle, 1).run(in_lists.inputs, ["logit", "weight"], None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    place = in_groups.inputs.get("candidate_place", np.arange(60)[None])[0]
    np.testing.assert_allclose(weight[0], expected_weight[0][place], atol=1e-6)


@pytest.mark.parametrize("model", [*IN_LISTS, *AROUND_A_KERNEL])
def test_tables_of_a_request_stand_in_place_of_the_bundles(world, model):
    bundle = bundle_of(world, model)
    graph = ListGraph(bundle, 1) if model in IN_LISTS else KernelGraph(bundle, 1, AROUND_A_KERNEL[model])
    inputs = search(*made_up(bundle, 20, 200, seed=4), bundle, takes=graph.takes).inputs
    expected, other = (
        graph.run(inputs, ["logit"], tables)[0] for tables in (None, {"item_vector": bundle.tables["item_vector"] * 2})
    )
    assert (graph.run(inputs, ["logit"], dict(bundle.tables))[0] == expected).all()
    assert np.abs(other - expected).max() > 1e-3


def test_explanations_name_each_candidates_own_heaviest(world):
    bundle = bundle_of(world, "sim_hard")
    call, fetched = made_up(bundle, 60, 700, seed=5, explain=4)
    graph = Graph(bundle, "cpu", 1)
    searched = search(call, fetched, bundle, takes=graph.takes)
    answer = respond(call, fetched, searched, attend(graph, searched, 4, math.inf), bundle)
    names = bundle.registry.category_names
    for category, explained in zip(call.candidates.category.tolist(), answer.explanations, strict=True):
        assert {entry["category"] for entry in explained} <= {names[category - 2]}
        weights = [entry["weight"] for entry in explained]
        assert weights == sorted(weights, reverse=True)
    assert any(answer.explanations)


@pytest.mark.parametrize(("before", "after"), [(BEFORE, AFTER), (PAIRS.before, PAIRS.after), (ROW.before, ROW.after)])
def test_one_of_the_two_graphs_alone_is_refused(tiny, before, after):
    folder = tiny.add("eta")
    (folder / before).write_bytes(b"a graph")
    with pytest.raises(BundleInvalid, match=f"no sha256 of {after}"):
        signed_anew(folder)


@pytest.mark.parametrize(("before", "after"), [(BEFORE, AFTER), (PAIRS.before, PAIRS.after), (ROW.before, ROW.after)])
def test_graphs_with_other_inputs_are_refused(tiny, before, after):
    folder = tiny.add("eta")
    for name in (before, after):
        (folder / name).write_bytes((folder / "score.onnx").read_bytes())
    with pytest.raises(BundleInvalid, match=f"{before}: inputs "):
        Graph(signed_anew(folder), "cpu", 1)


def test_a_graph_that_gives_a_kernel_something_else_is_refused(world, tmp_path):
    folder = copied(bundle_of(world, "bst"), tmp_path)
    graph = onnx.load(folder / ROW.before)
    graph.graph.output[0].name = graph.graph.node.add(op_type="Identity", input=["of_target"], output=["other"]).output[0]
    onnx.save(graph, folder / ROW.before)
    with pytest.raises(BundleInvalid, match=r"before_target\.onnx: outputs .*'other'.*the kernel takes .*'of_target'"):
        Graph(signed_anew(folder), "cpu", 1)


@pytest.mark.parametrize("length", [0, 1, 40])
def test_a_memory_is_written_without_a_graph_and_with_it_where_the_bundle_has_no_weights(world, tmp_path, length):
    bundle = bundle_of(world, "mimn")
    assert MEMORY in bundle.manifest.files
    folder = copied(bundle, tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][MEMORY]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    row = np.random.default_rng(length).integers(2, bundle.manifest.item_rows, length).astype(np.int32)
    by_kernel, by_graph = Graph(bundle, "cpu", 1), Graph(Bundle(folder), "cpu", 1)
    found, expected = by_kernel.fold(None, row), by_graph.fold(None, row)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-4)
    twice = {"item_vector": bundle.tables["item_vector"] * 2}
    for name, array in by_graph.fold(None, row, tables=twice).items():
        np.testing.assert_allclose(by_kernel.fold(None, row, tables=twice)[name], array, atol=1e-4)


@pytest.mark.parametrize("length", [0, 1, 40])
def test_sums_are_added_to_without_a_graph_as_with_it(world, tmp_path, length):
    bundle = bundle_of(world, "sdim")
    folder = copied(bundle, tmp_path)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][SUMS.after]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    row = np.random.default_rng(length).integers(2, bundle.manifest.item_rows, length).astype(np.int32)
    by_kernel, by_graph = Graph(bundle, "cpu", 1), Graph(Bundle(folder), "cpu", 1)
    for tables in (None, {"item_vector": bundle.tables["item_vector"] * 2}):
        found, expected = (graph.fold(None, row, tables=tables)["bucket_sum"] for graph in (by_kernel, by_graph))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weights_of_a_memory_that_do_not_fit_are_refused(world, tmp_path):
    folder = copied(bundle_of(world, "mimn"), tmp_path)
    weights = dict(np.load(folder / MEMORY))
    np.savez(folder / MEMORY, **weights | {"of_slot": weights["of_slot"][:-1]})
    with pytest.raises(BundleInvalid, match=r"memory\.npz: weights of a memory that do not fit"):
        Graph(signed_anew(folder), "cpu", 1)
