"""What makes BST BST."""

import numpy as np
import pytest
import torch

from export.models.bst import GAP_OF_TARGET, TargetRow
from store.gaps import gap_buckets
from store.types import Behaviours
from tests.export.models.synthetic import AT, Small, category, many

WIDTH, HEADS, FEED_FORWARD = 12, 3, 20


def life(rows, gaps_s) -> Behaviours:
    """Behaviours of these rows, so many seconds before the request, without cross features."""
    rows = np.asarray(rows, np.int32)
    return Behaviours(rows, category(rows), AT - np.asarray(gaps_s, np.int64), np.zeros((len(rows), 1), np.uint8))


def block(dropout: float = 0.0) -> TargetRow:
    """With random norms, so that they are seen."""
    torch.manual_seed(2)
    row = TargetRow(WIDTH, HEADS, WIDTH // HEADS, FEED_FORWARD, dropout).eval()
    for parameter in row.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return row


def full_block(of: TargetRow) -> torch.nn.TransformerEncoderLayer:
    """torch's whole block, every row against every row, with the same weights."""
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, FEED_FORWARD, dropout=0.0, activation=torch.nn.functional.leaky_relu, batch_first=True
    ).eval()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(torch.cat([of.query.weight, of.key.weight, of.value.weight]))
        layer.self_attn.in_proj_bias.zero_()
        layer.self_attn.out_proj.weight.copy_(of.out.weight)
        layer.self_attn.out_proj.bias.zero_()
        layer.linear1.load_state_dict(of.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(of.feed_forward[2].state_dict())
        layer.norm1.load_state_dict(of.attention_norm.state_dict())
        layer.norm2.load_state_dict(of.output_norm.state_dict())
    return layer


# The block


@pytest.mark.parametrize("real", [0, 1, 5])
def test_the_row_equals_the_targets_row_of_the_full_block(real):
    """Of all L + 1 rows, with 5 - L masked behaviours behind them in ours."""
    row = block()
    behaviours, targets = torch.randn(1, 5, WIDTH), torch.randn(1, 4, WIDTH)
    found, _ = row(targets, behaviours, torch.arange(5)[None] < real)
    for s in range(4):
        rows = torch.cat([behaviours[:, :real], targets[:, s : s + 1]], dim=1)  # [1, L + 1, E]
        assert torch.allclose(found[0, s], full_block(row)(rows)[0, -1], atol=1e-5)


def test_the_weights_are_those_of_the_full_attention_on_the_behaviours():
    row = block()
    behaviours, target = torch.randn(1, 5, WIDTH), torch.randn(1, 1, WIDTH)
    _, weight = row(target, behaviours, torch.ones(1, 5, dtype=torch.bool))
    rows = torch.cat([behaviours, target], dim=1)
    _, naive = full_block(row).self_attn(rows, rows, rows)  # [1, L + 1, L + 1], mean over heads
    assert torch.allclose(weight[0, 0], naive[0, -1, :-1], atol=1e-6)


def test_the_target_attends_to_itself():
    """What is left of its attention falls on itself: all of it, where there is no behaviour."""
    row = block()
    target, behaviours = torch.randn(1, 1, WIDTH), torch.randn(1, 5, WIDTH)
    out, weight = row(target, behaviours, torch.zeros(1, 5, dtype=torch.bool))
    to_itself = row.attention_norm(target + row.out(row.value(target)))
    assert torch.allclose(out, row.output_norm(to_itself + row.feed_forward(to_itself)), atol=1e-6)
    assert not weight.any()
    _, weight = row(target, behaviours, torch.ones(1, 5, dtype=torch.bool))
    assert 0 < weight.sum() < 1


def test_the_empty_users_interest_depends_on_the_target():
    small = Small.of("bst")
    _, inputs = small.search([5, 9], many(0))
    tensors = {name: torch.from_numpy(inputs[name]) for name in small.model.input_names}
    with torch.inference_mode():
        found = small.model.interest(small.vectors[tensors["candidate_row"]], small.model.user(small.vectors, tensors)).vector
    assert torch.isfinite(found).all()
    assert found.any(dim=-1).all()
    assert not torch.allclose(found[0, 0, 0], found[0, 0, 1])


def test_behaviours_are_projected_once_a_user_not_once_a_candidate():
    small = Small.of("bst")
    shapes = []
    for part in (small.model.block.key, small.model.block.value):
        part.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    small.logits([5, 9, 12, 33], many(60))
    assert sorted(shapes) == [(1, 4, 24), (1, 4, 24), (1, 50, 24), (1, 50, 24)]  # 4 targets, 50 behaviours


def test_dropout_is_in_training_only():
    row = block(dropout=0.5)
    given = torch.randn(1, 1, WIDTH), torch.randn(1, 5, WIDTH), torch.ones(1, 5, dtype=torch.bool)
    assert torch.equal(row(*given)[0], row(*given)[0])
    assert torch.equal(row(*given)[0], block(dropout=0.0)(*given)[0])
    row.train()
    assert not torch.allclose(row(*given)[0], row(*given)[0])


def test_dropout_is_on_the_attention_and_on_the_feed_forward_layer():
    row = block(dropout=1.0).train()  # everything is dropped: only the residuals are left
    target = torch.randn(1, 1, WIDTH)
    out, _ = row(target, torch.randn(1, 5, WIDTH), torch.ones(1, 5, dtype=torch.bool))
    assert torch.allclose(out, row.output_norm(row.attention_norm(target)), atol=1e-6)


# Positions are time gaps


def test_the_targets_gap_is_that_of_no_time():
    assert gap_buckets(np.array([AT]), AT).tolist() == [GAP_OF_TARGET]


def test_moving_all_behaviours_back_in_time_changes_the_score():
    """An index position would not see it."""
    small = Small.of("bst")
    gaps = np.array([9000, 6000, 3000])
    before, after = small.logits([5], life([7, 9, 12], gaps)), small.logits([5], life([7, 9, 12], gaps + 500_000))
    assert not np.allclose(before, after, atol=1e-4)


def test_another_order_of_equal_gaps_does_not_change_the_score():
    """An index position would see it."""
    small = Small.of("bst")
    assert np.allclose(
        small.logits([5], life([7, 9, 12], [3000] * 3)), small.logits([5], life([12, 7, 9], [3000] * 3)), atol=1e-6
    )


def test_the_gap_belongs_to_its_behaviour():
    """The same behaviours and the same gaps, dealt otherwise."""
    small = Small.of("bst")
    gaps = [500_000, 3000]
    assert not np.allclose(small.logits([5], life([7, 9], gaps)), small.logits([5], life([9, 7], gaps)), atol=1e-5)


def test_a_target_has_the_gap_of_no_time():
    """Only its embedding beside the targets: without behaviours no other gap is seen."""
    small = Small.of("bst")
    before = small.logits([5], many(0))
    with torch.no_grad():
        small.model.gap.weight[GAP_OF_TARGET + 1 :] += 1
    assert np.array_equal(small.logits([5], many(0)), before)
    with torch.no_grad():
        small.model.gap.weight[GAP_OF_TARGET, 0] += 1
    assert not np.allclose(small.logits([5], many(0)), before, atol=1e-4)


def test_only_the_newest_fifty_are_read():
    small = Small.of("bst")
    behaviours = many(80)
    newest = [small.logits([5, 8], behaviours.select(slice(first, None))) for first in (30, 31)]
    assert np.array_equal(small.logits([5, 8], behaviours), newest[0])
    assert not np.array_equal(newest[0], newest[1])
