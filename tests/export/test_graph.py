"""The exported graph: axes that differ between requests stay free, whatever it was traced with."""

import numpy as np
import onnxruntime
import pytest
import torch

from export.graph import export_graph
from export.models import list_models
from store.bundle import ITEM_VECTOR
from tests.export.models.synthetic import Small, behaviours, many


def run(path, small, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {name: inputs[name] for name in small.model.input_names}
    return session.run(["logit", "weight"], {ITEM_VECTOR: small.vectors.numpy(), **feed})


@pytest.mark.parametrize("name", list_models())
def test_a_graph_traced_with_one_candidate_and_one_behaviour_scores_any_request(name, tmp_path):
    small = Small.of(name)
    _, one = small.search([5], behaviours([5]))
    export_graph(small.model, small.vectors, one, tmp_path / "g.onnx")
    for rows, life in (([5], behaviours([])), ([5], many(1)), ([5, 9, 12, 33, 7], many(300))):
        _, inputs = small.search(rows, life)
        with torch.inference_mode():
            expected = small.forward(inputs)
        for ours, theirs in zip(run(tmp_path / "g.onnx", small, inputs), expected, strict=True):
            assert np.allclose(ours, theirs.numpy(), atol=1e-5)
