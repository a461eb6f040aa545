"""What makes DIN DIN."""

import numpy as np
import pytest
import torch

from export.layers.dice import Dice
from export.models.din import AttentionUnit
from tests.export.models.synthetic import Small, behaviours, many


def test_attention_is_not_normalised():
    """Two equal behaviours pull twice as hard as one (eq. 3 has no softmax)."""
    small = Small.of("din")
    _, once = small.search([5], behaviours([7]))
    _, twice = small.search([5], behaviours([7, 7]))
    weight = small.forward(once).weight
    weights = small.forward(twice).weight
    assert torch.allclose(weights[0, 0, :2], weight[0, 0, :1].expand(2))


@pytest.mark.parametrize("training", [True, False])
def test_the_unit_equals_a_plain_mlp_over_target_behaviour_difference_and_product(training, monkeypatch):
    torch.manual_seed(0)
    unit = AttentionUnit(6, (5, 4)).eval()
    for dice in (unit.first_dice, unit.second_dice):  # 1 and next to it: Dice is the identity
        dice.alpha.data = torch.tensor([0.0, 1.0, 1.0 - 1e-9, -0.3, 1.7])[: len(dice.alpha)]
        dice.mean, dice.variance = torch.randn(len(dice.alpha)), torch.rand(len(dice.alpha)) + 0.1
    if training:
        monkeypatch.setattr(unit, "_folded", lambda target, item: unit._trained(target, item, mask))
    target, item = torch.randn(1, 1, 3, 6), torch.randn(1, 1, 4, 6)
    q, k = target.unsqueeze(3).expand(-1, -1, -1, 4, -1), item.unsqueeze(2).expand(-1, -1, 3, -1, -1)
    # any weights for [q, k, q - k, q * k] with the same folded sums
    wd = torch.randn(5, 6)
    w = torch.cat([unit.from_target.weight - wd, unit.from_behaviour.weight + wd, wd, unit.from_product.weight], dim=1)
    hidden = torch.nn.functional.linear(torch.cat([q, k, q - k, q * k], dim=-1), w, unit.from_target.bias)
    mask = torch.ones(1, 1, 4, dtype=torch.bool)
    real = mask.unsqueeze(2).expand(1, 1, 3, 4)
    plain = unit.out(unit.second_dice(unit.second(unit.first_dice(hidden, real)), real)).squeeze(-1)
    assert torch.allclose(unit(target, item, mask), plain, atol=1e-5)


def test_dice_uses_batch_statistics_in_training_and_running_ones_after():
    dice = Dice(1)
    s, mask = torch.tensor([[1.0], [3.0], [100.0]]), torch.tensor([True, True, False])
    with torch.no_grad():
        dice.train()
        in_training = dice(s, mask)
        dice.eval()
        after = dice(s, mask)
    p = torch.sigmoid(torch.tensor([[-1.0], [1.0]]))  # mean 2, variance 1 of the two real entries
    assert torch.allclose(in_training[:2], s[:2] * p, atol=1e-4)
    assert not torch.allclose(after[:2], in_training[:2])
    assert torch.allclose(dice.mean, torch.tensor([0.02]))


def test_only_the_newest_fifty_are_read():
    small = Small.of("din")
    life = many(80)
    assert np.array_equal(small.logits([5, 8], life), small.logits([5, 8], life.select(slice(30, None))))


def test_dice_statistics_leave_padding_out():
    """Padding behaviours and padding candidates (vectors of zeros) move no statistics."""
    torch.manual_seed(0)
    unit, padded = AttentionUnit(6, (5, 4)).train(), AttentionUnit(6, (5, 4)).train()
    padded.load_state_dict(unit.state_dict())
    target, item, mask = torch.randn(1, 1, 3, 6), torch.randn(1, 1, 4, 6), torch.ones(1, 1, 4, dtype=torch.bool)
    unit(target, item, mask)
    pad = torch.nn.functional.pad
    padded(pad(target, (0, 0, 0, 5)), pad(item, (0, 0, 0, 7)), pad(mask, (0, 7)))
    assert torch.allclose(unit.first_dice.mean, padded.first_dice.mean, atol=1e-6)
    assert torch.allclose(unit.second_dice.variance, padded.second_dice.variance, atol=1e-6)


def test_l2_touches_the_ids_of_the_batch_only_each_over_its_count():
    """sum over present ids of |w|^2 / (2 n): eq. 6-7, by hand."""
    items = Small.of("din").model.items
    counts = [torch.arange(40, dtype=torch.float32), torch.full((7,), 4.0)]
    features = torch.tensor([[5, 3], [9, 3], [5, 3], [1, 1]])  # 5 stands twice and counts once
    first, second = (table.weight for table in items.tables)
    expected = first[5].square().sum() / 5 + first[9].square().sum() / 9 + first[1].square().sum() / 1
    expected = (expected + (second[3].square().sum() + second[1].square().sum()) / 4) / 2
    penalty = items.minibatch_l2(features, counts)
    assert float(penalty.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    penalty.backward()
    touched = first.grad.coalesce().indices()[0]
    assert sorted(touched.tolist()) == [1, 5, 9]


def test_din_is_trained_with_it():
    assert Small.of("din").model.config.item_l2 == 0.01  # lambda of the paper's 6.5
