"""The plain export of a model: same scores as ours, whatever the search."""

import numpy as np
import onnxruntime
import pytest
import torch

from export.models import build
from export.precompute import item_tables
from export.run import shape_of
from loadtest.peers.forward_tiled import GRAPH, feed
from loadtest.peers.tiled_graph import export_tiled
from loadtest.served.bench_world import LAST_TS
from store.graph_inputs import scores_of, search_inputs
from store.search import SEARCHES

LENGTH, CANDIDATES = 150, 7


@pytest.mark.parametrize(
    ("name", "config"), [("din", {"k": 50}), ("sim_soft", {"k": 30}), ("eta", {"k": 30}), ("twin", {"k": 30})]
)
def test_scores_are_those_of_search_and_attention(bench_world, tmp_path, name, config):
    torch.manual_seed(3)
    model = build(name, shape_of(bench_world.items, bench_world.schema), k=30).eval()
    tables = item_tables(bench_world.items, model)
    life, at = bench_world.life(1, LENGTH), LAST_TS + 1
    candidates = bench_world.registry.candidates(bench_world.candidates(1, CANDIDATES, 20, 0))
    context = bench_world.schema.encode_context({}, at)
    search = SEARCHES[model.search_name](model.search_spec, tables)
    _, _, inputs = search_inputs(search, candidates, life, at, model.config.recent, context)
    with torch.no_grad():
        vectors = torch.from_numpy(tables["item_vector"])
        logit = model(vectors, {key: torch.from_numpy(array) for key, array in inputs.items()}).logit[0].numpy()
    expected = scores_of(logit)
    assert np.ptp(expected) > 1e-3

    export_tiled(model, name, tables["item_vector"], inputs, life, at, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / GRAPH, providers=["CPUExecutionProvider"])
    fed = feed(tmp_path)
    assert all(len(array) == CANDIDATES for key, array in fed.items() if key != "item_vector")
    plain = 1 / (1 + np.exp(-session.run(["logit"], fed)[0]))
    np.testing.assert_allclose(plain, expected, atol=1e-6)
