"""Self-attention scaled by the width of the model."""

import torch

from export.layers.self_attention import SelfAttention


def test_each_head_is_softmax_of_products_over_the_root_of_the_models_width():
    torch.manual_seed(0)
    attention = SelfAttention(6, heads=2, head_dim=4)
    item = torch.randn(3, 5, 6)
    out = attention(item, torch.ones(5, 5, dtype=torch.bool))
    assert out.shape == (3, 2, 5, 4)
    weights = attention.project.weight.reshape(3, 2, 4, 6)  # Q, K, V x heads
    for h in range(2):
        query, key, value = (item @ weights[part, h].T for part in range(3))
        expected = torch.softmax(query @ key.transpose(1, 2) / 6**0.5, dim=-1) @ value
        assert torch.allclose(out[:, h], expected, atol=1e-6)


def test_what_is_not_allowed_is_not_seen():
    torch.manual_seed(0)
    attention = SelfAttention(6, heads=2, head_dim=4)
    item = torch.randn(1, 4, 6)
    allowed = torch.tensor([[True, True, False, True]])
    other = item.clone()
    other[:, 2] = 9
    rows = [0, 1, 3]
    assert torch.equal(attention(item, allowed)[:, :, rows], attention(other, allowed)[:, :, rows])


def test_who_may_see_none_gets_zeros():
    attention = SelfAttention(6, heads=2, head_dim=4)
    assert not attention(torch.randn(1, 3, 6), torch.zeros(1, 1, 3, dtype=torch.bool)).any()
