"""What makes TWIN TWIN."""

import math

import numpy as np
import pytest
import torch

from store.graph_inputs import cross_with_gap
from store.search.projection import bias_of
from tests.export.models.synthetic import AT, Small, behaviours, many


def relevance_by_hand(small, target_row, life):
    """alpha of eq. 6 for one target, head by head, from the parameters: float [H, L]."""
    model, config = small.model, small.model.config
    cross = torch.from_numpy(cross_with_gap(life, AT))
    embedded = model.cross(cross)  # [L, J, side]
    rows = []
    for h in range(config.heads):
        keys = small.vectors[life.row] @ model.attention.key[h]
        query = small.vectors[target_row] @ model.attention.query[h]
        bias = sum(model.bias.beta[h, j] * (embedded[:, j] @ model.bias.projection[h, j]) for j in range(embedded.shape[1]))
        rows.append(keys @ query / math.sqrt(config.head_dim) + bias)
    return torch.stack(rows).detach().numpy()


def test_the_search_ranks_by_the_relevance_that_the_attention_uses():
    """GSU and ESU share the formula: the weights of the graph are the softmax of the search's own relevance."""
    small, life = Small.of("twin", k=60), many(60)
    _, inputs = small.search([13], life)
    weight = small.forward(inputs).weight
    relevance = relevance_by_hand(small, 13, life)
    expected = np.exp(relevance) / np.exp(relevance).sum(axis=1, keepdims=True)
    assert np.allclose(weight[0, 0].detach().numpy(), expected.mean(axis=0), atol=1e-5)


def test_the_tables_of_the_search_give_that_relevance():
    small, life = Small.of("twin"), many(60)
    tables = small.model.tables(small.vectors)
    bias = bias_of(tables["cross_bias"], cross_with_gap(life, AT))
    scores = np.einsum("hd,lhd->hl", tables["query_projection"][13], tables["key_projection"][life.row]) + bias.T
    assert np.allclose(scores, relevance_by_hand(small, 13, life), atol=1e-5)


def test_the_heads_take_turns_until_k_different_behaviours_are_together():
    small, life = Small.of("twin", k=10), many(200)
    retrieved, _ = small.search([13], life)
    relevance = relevance_by_hand(small, 13, life)
    ranked = np.argsort(-relevance, axis=1, kind="stable")
    union: list[int] = []
    for rank in range(10):
        for head in range(len(ranked)):
            if len(union) < 10 and ranked[head, rank] not in union:
                union.append(int(ranked[head, rank]))
    assert retrieved.index[0].tolist() == sorted(union)


@pytest.mark.parametrize("name", ["twin", "twin_v2"])
def test_the_merged_search_has_one_relevance_the_mean_of_the_heads(name):
    small, merged, life = Small.of(name, k=10), Small.of(name, k=10, merged_search=True), many(200)
    merged.model.load_state_dict(small.model.state_dict())
    merged.vectors = small.vectors
    tables = merged.model.tables(merged.vectors)
    assert [tables[table].shape[1:] for table in ("key_projection", "query_projection")] == [
        (1, merged.model.config.heads * merged.model.config.head_dim)
    ] * 2
    mean = relevance_by_hand(small, 13, life).mean(axis=0)
    bias = bias_of(tables["cross_bias"], cross_with_gap(life, AT))
    assert np.allclose(tables["key_projection"][life.row, 0] @ tables["query_projection"][13, 0] + bias[:, 0], mean, atol=1e-5)
    if name == "twin":
        assert merged.search([13], life)[0].index[0].tolist() == sorted(np.argsort(-mean, kind="stable")[:10])


def test_the_attention_is_the_same_however_the_heads_search():
    small, merged, life = Small.of("twin", k=60), Small.of("twin", k=60, merged_search=True), many(60)
    merged.model.load_state_dict(small.model.state_dict())
    merged.vectors = small.vectors
    assert np.array_equal(merged.logits([5, 9], life), small.logits([5, 9], life))


def test_the_cross_projection_is_block_diagonal():
    """A cross feature's embedding moves the relevance through its own weight only."""
    small = Small.of("twin")
    bias = small.model.bias
    features, width = bias.projection.shape[1:]
    with torch.no_grad():
        asked = small.model.queries(small.vectors[None, None, :1])[0, 0, :, 0, small.model.config.dim :]  # [H, J * width]
        for j in range(features):
            embedded = torch.zeros(features, width)
            embedded[j] = torch.randn(width)
            expected = bias.beta[:, j] * (bias.projection[:, j] @ embedded[j])
            assert torch.allclose(asked @ embedded.flatten(), expected, atol=1e-6)


def test_the_target_has_inherent_features_only():
    """The query is made of the item alone: neither other cross features nor other weights of theirs change it."""
    small, life = Small.of("twin"), many(60)
    asked, read = [], []
    queries, of_user = small.model.queries, small.model.side
    small.model.queries = lambda target: (asked.append(target), queries(target))[1]
    small.model.side = lambda user: (read.append(of_user(user)), read[-1])[1]
    for lived in (life, behaviours(life.row, seed=5)):  # same items and times
        small.forward(small.search([13, 21], lived)[1])
    assert torch.equal(*asked)
    assert torch.equal(asked[0].flatten(0, 2), small.vectors[[13, 21]])
    assert not torch.allclose(*read, atol=1e-3)
    assert torch.equal(
        queries(asked[0])[0, 0, :, 0, small.model.config.dim :], queries(asked[0])[0, 1, :, 0, small.model.config.dim :]
    )

    before = small.model.tables(small.vectors)
    with torch.no_grad():
        for weight in (*small.model.cross.parameters(), *small.model.bias.parameters()):
            weight.add_(1)
    after = small.model.tables(small.vectors)
    assert {name for name, table in after.items() if not np.array_equal(table, before[name])} == {"cross_bias"}


def test_cross_features_enter_the_search():
    small = Small.of("twin", k=3)
    with torch.no_grad():
        small.model.bias.beta.mul_(100)
    life = many(100)
    other = behaviours(life.row, seed=5)  # same items and times, other cross features
    assert small.search([13], life)[0].index.tolist() != small.search([13], other)[0].index.tolist()
