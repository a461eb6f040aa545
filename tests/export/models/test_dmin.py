"""What makes DMIN DMIN."""

import numpy as np
import pytest
import torch
from torch.nn.functional import linear, softplus

from export.models.dmin import Extractor, PositionedUnit, Refiner
from tests.export.models.synthetic import Small, many, training_inputs

LOWER = torch.ones(5, 5, dtype=torch.bool).tril()[None]


@pytest.mark.parametrize("layer", [Refiner, Extractor])
def test_no_attention_looks_ahead(layer):
    """Or Z_t would have seen the behaviour it is to foresee."""
    small = Small.of("dmin")
    part = small.model.refiner if layer is Refiner else small.model.extractor
    seen = []
    part.register_forward_hook(lambda _, given, out: seen.append((given[1][0], out)))
    life = many(5)
    for row in (30, 31):
        life.row[3] = row
        small.logits([5], life)
    (allowed, before), (_, after) = seen
    assert torch.equal(allowed[:5, :5], LOWER[0])
    assert torch.equal(before[..., :3, :], after[..., :3, :])
    assert not torch.allclose(before[..., 3, :], after[..., 3, :], atol=1e-3)
    assert not torch.allclose(before[..., 4, :], after[..., 4, :], atol=1e-3)


def test_the_refiner_adds_normalises_and_feeds_forward():
    torch.manual_seed(0)
    refine, item = Refiner(6, heads=2, head_dim=3), torch.randn(2, 5, 6)
    heads = refine.attention(item, LOWER)
    x = refine.norm(item + refine.out(torch.cat([heads[:, 0], heads[:, 1]], dim=-1)))
    assert [layer.out_features for layer in refine.feed_forward if hasattr(layer, "out_features")] == [12, 6]
    assert torch.allclose(refine(item, LOWER), x + refine.feed_forward(x), atol=1e-6)


def test_every_head_of_the_extractor_has_its_own_projection_norm_and_feed_forward():
    torch.manual_seed(0)
    extract, refined = Extractor(6, heads=2, head_dim=3), torch.randn(2, 5, 6)
    with torch.no_grad():
        for parameter in extract.parameters():
            parameter.normal_()
    heads, found = extract.attention(refined, LOWER), extract(refined, LOWER)
    for h in range(2):
        x = refined + heads[:, h] @ extract.out.weight[h] + extract.out.bias[h]
        x = torch.layer_norm(x, (6,), extract.norm_weight[h, 0], extract.norm_bias[h, 0])
        inner = torch.relu(x @ extract.first.weight[h] + extract.first.bias[h])
        expected = x + inner @ extract.second.weight[h] + extract.second.bias[h]
        assert inner.shape[-1] == 12
        assert torch.allclose(found[h], expected, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_unit_equals_a_plain_mlp_whose_query_is_target_and_position(training):
    torch.manual_seed(0)
    unit = PositionedUnit(6, 2, heads=3, hidden=(5, 4)).train(training)
    target, position, interest = torch.randn(2, 3, 6), torch.randn(2, 4, 2), torch.randn(3, 2, 4, 6)
    logits = unit(target, position, interest)
    for h in range(3):
        joined = torch.cat([target.unsqueeze(2).expand(-1, -1, 4, -1), position.unsqueeze(1).expand(-1, 3, -1, -1)], dim=-1)
        q = linear(joined, torch.cat([unit.query.weight[h], unit.query_position.weight[h]]).T, unit.query.bias[h, 0])
        k = interest[h].unsqueeze(1).expand(-1, 3, -1, -1)
        # any weights for [q, k, q - k, q * k] with the same folded sums
        wd = torch.randn(6, 5)
        w = [unit.from_query.weight[h] - wd, unit.from_behaviour.weight[h] + wd, wd, unit.from_product.weight[h]]
        first = torch.sigmoid(linear(torch.cat([q, k, q - k, q * k], dim=-1), torch.cat(w).T, unit.from_query.bias[h, 0]))
        second = torch.sigmoid(first @ unit.second.weight[h] + unit.second.bias[h])
        assert torch.allclose(logits[h], (second @ unit.out.weight[h]).squeeze(-1), atol=1e-5)


@pytest.mark.parametrize(("length", "positions"), [(3, [2, 1, 0, 0]), (4, [3, 2, 1, 0]), (9, [3, 2, 1, 0]), (0, [0, 0, 0, 0])])
def test_positions_are_counted_from_the_newest_behaviour(length, positions):
    small = Small.of("dmin", k=4)
    seen = []
    small.model.position.register_forward_hook(lambda _, given, out: seen.append(given[0][0].tolist()))
    small.logits([5], many(length))
    assert seen == [positions]


def test_each_interest_is_a_softmax_over_the_behaviours_and_all_stand_side_by_side():
    small = Small.of("dmin", k=6)
    model, seen = small.model, {}
    model.extractor.register_forward_hook(lambda *call: seen.update(interest=call[2]))
    model.unit.register_forward_hook(lambda *call: seen.update(logits=call[2]))
    _, inputs = small.search([5, 8], many(4))
    batch = {name: torch.from_numpy(inputs[name]) for name in model.input_names}
    found = model.interest(small.vectors[[5, 8]][None, None], model.user(small.vectors, batch))
    weight = torch.softmax(seen["logits"][..., :4], dim=-1)[:, 0]  # [H, S, 4]
    pooled = [weight[h] @ seen["interest"][h, 0, :4] for h in range(4)]
    assert torch.allclose(found.vector[0, 0], torch.cat(pooled, dim=-1), atol=1e-5)
    assert torch.allclose(found.weight[0, 0, :, :4], weight.mean(dim=0), atol=1e-6)
    assert torch.allclose(found.like_target[0, 0], weight.mean(dim=0) @ small.vectors[many(4).row], atol=1e-5)


def auxiliary(small, inputs, training=True):
    return small.forward(inputs | training_inputs(inputs), training).auxiliary_loss


def test_the_auxiliary_loss_is_of_training_only_and_negatives_are_no_input_of_the_graph():
    small = Small.of("dmin")
    _, inputs = small.search([5, 8], many(9))
    assert "negative_row" not in small.model.input_names
    assert auxiliary(small, inputs) is None, "not training"
    small.model.train()
    assert small.forward(inputs, training=True).auxiliary_loss is None, "no negatives"
    assert auxiliary(small, inputs) > 0


def test_the_auxiliary_loss_holds_what_is_refined_against_the_next_behaviour_and_a_negative():
    small = Small.of("dmin", auxiliary_weight=2.0)
    seen = []
    small.model.refiner.register_forward_hook(lambda _, given, out: seen.append(out[0]))
    _, inputs = small.search([5, 8], many(9))
    small.model.train()
    loss = auxiliary(small, inputs)
    negatives = small.vectors[training_inputs(inputs)["negative_row"][0, 0]]
    of_pairs = [
        softplus(-seen[0][t] @ small.vectors[many(9).row[t + 1]] / 4) + softplus(seen[0][t] @ negatives[t + 1] / 4)
        for t in range(8)
    ]  # 4 = sqrt(D)
    assert float(loss.detach()) == pytest.approx(2 * float(torch.stack(of_pairs).mean().detach()), rel=1e-5)


def test_behaviours_are_refined_once_a_request_whatever_the_candidates():
    small = Small.of("dmin")
    shapes = []
    for part in (small.model.refiner, small.model.extractor):
        part.register_forward_hook(lambda _, given, out: shapes.append(tuple(out.shape)))
    small.logits(list(range(2, 20)), many(30))
    assert shapes == [(1, 20, 16), (4, 1, 20, 16)]


def test_what_stands_at_padding_does_not_matter():
    small = Small.of("dmin")
    _, inputs = small.search([5, 8], many(6))
    filled = inputs | {"retrieved_row": np.where(inputs["retrieved_mask"], inputs["retrieved_row"], 9).astype(np.int32)}
    assert torch.equal(small.forward(inputs).logit, small.forward(filled).logit)
    small.model.train()
    assert torch.equal(auxiliary(small, inputs), auxiliary(small, filled))
