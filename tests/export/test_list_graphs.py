"""Graphs around an attention in lists: which vectors the kernel reads from the table of items, and which a graph makes."""

from functools import partial

import numpy as np
import onnxruntime
import pytest

from export.list_graphs import write_list_graphs
from store.attention import attend_in_lists
from store.bundle import AFTER, BEFORE, ITEM_VECTOR
from store.graph_inputs import cross_with_gap, list_inputs
from store.types import Candidates
from tests.export.models.synthetic import AT, CONTEXT, SHAPE, WITH_NEGATIVES, Small, category, many

ROWS = np.array([3, 9, 1, 30], np.int32)


def run(folder, tables, name, inputs):
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    found = session.run(None, {node.name: (tables | inputs)[node.name] for node in session.get_inputs()})
    return dict(zip((node.name for node in session.get_outputs()), found, strict=True))


@pytest.mark.parametrize(
    ("model", "shape", "dim", "made"),
    [
        ("sim_hard", SHAPE, 16, ["side_of_gap"]),
        ("sim_hard", WITH_NEGATIVES, 16, ["item", "side_of_gap"]),  # how it went is added to an item's vector
        ("eta", SHAPE, 24, ["item", "side_of_gap", "value"]),  # a width that the kernel cannot read in the table
        ("twin", WITH_NEGATIVES, 16, ["side", "value"]),  # has its own way to read how it went
        ("twin", SHAPE, 40, ["item", "side", "value"]),
        ("twin_v2", SHAPE, 16, ["side", "value"]),  # what it adds to a query is no value
    ],
)
def test_the_graphs_and_the_kernel_give_the_models_own_logits(tmp_path, model, shape, dim, made):
    small, life = Small.of(model, shape=shape, dim=dim, k=5, recent=0), many(60)
    retrieved, _ = small.search(ROWS, life)
    candidates = Candidates(ROWS, category(ROWS))
    inputs = list_inputs(candidates, life, cross_with_gap(life, AT), retrieved, CONTEXT)
    tables = {ITEM_VECTOR: small.vectors.numpy()}
    write_list_graphs(small.model, tables, inputs, tmp_path)
    outputs = onnxruntime.InferenceSession(tmp_path / BEFORE).get_outputs()
    assert [output.name for output in outputs] == ["query", *made]
    before, after = (partial(run, tmp_path, tables, name) for name in (BEFORE, AFTER))
    logit, _ = attend_in_lists(before, lambda given: list(after(given).values()), inputs, tables[ITEM_VECTOR])
    np.testing.assert_allclose(logit[0], small.logits(ROWS, life), atol=1e-5)
