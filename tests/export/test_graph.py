"""The exported graph: axes that differ between requests stay free, whatever it was traced with."""

import numpy as np
import onnxruntime
import pytest
import torch

from export.graph import export_graph, export_update
from export.models import list_models
from export.models.stateful import StatefulModel
from store.bundle import ITEM_VECTOR
from store.fold import fold, initial_state
from tests.export.models.synthetic import Small, behaviours, many


def run(path, feed):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = {node.name for node in session.get_inputs()}
    return session.run(None, {name: array for name, array in feed.items() if name in names})


@pytest.mark.parametrize("name", list_models())
def test_a_graph_traced_with_one_candidate_and_one_behaviour_scores_any_request(name, tmp_path):
    small = Small.of(name)
    model = small.model
    tables = {ITEM_VECTOR: small.vectors.numpy()} | model.tables(small.vectors)
    _, one = small.search([5], behaviours([5]))
    export_graph(model, tables, one, tmp_path / "g.onnx")
    if isinstance(model, StatefulModel):
        export_update(model, tables, tmp_path / "u.onnx")
    for rows, life in (([5], behaviours([])), ([5], many(1)), ([5, 9, 12, 33, 7], many(300))):
        _, inputs = small.search(rows, life)
        with torch.inference_mode():
            expected = small.forward(inputs)
        if isinstance(model, StatefulModel):
            state = initial_state(tables, list(model.state_axes))
            row = inputs["retrieved_row"][inputs["retrieved_mask"]]
            inputs |= fold(lambda feed: run(tmp_path / "u.onnx", tables | feed), state, row, model.fold_at_once)
        logit, *weight = run(tmp_path / "g.onnx", tables | inputs)
        assert np.allclose(logit, expected.logit.numpy(), atol=1e-5)
        assert len(weight) == model.explains
        if weight:
            assert np.allclose(weight[0], expected.weight.numpy(), atol=1e-5)
