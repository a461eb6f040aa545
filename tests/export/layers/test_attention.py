"""Attention of all candidates to the same few behaviours: the same as attention, its projections taken by the behaviours."""

import pytest
import torch

from export.layers.attention import HeadOutput, TargetAttention, attend_to_few

WIDTH, SIDE, HEADS, PER_HEAD = 16, 4, 3, 5


@pytest.mark.parametrize("users", [1, 3])
def test_it_is_attention_and_then_the_output(users):
    torch.manual_seed(users)
    attention, out = TargetAttention(WIDTH, SIDE, HEADS, PER_HEAD), HeadOutput(HEADS, WIDTH + SIDE, PER_HEAD, WIDTH)
    target, behaviour = torch.randn(users, 1, 7, WIDTH), torch.randn(users, 1, 9, WIDTH + SIDE)
    mask = torch.rand(users, 1, 9) < 0.6
    with torch.inference_mode():
        expected = out(attention(target, behaviour, mask)[0])
        found = attend_to_few(attention, target, behaviour, mask, out.of_each(behaviour))
    assert torch.allclose(found, expected, atol=1e-5)
    assert float(expected.abs().max()) > 0.1


def test_values_may_be_anything_and_are_summed_over_heads():
    attention = TargetAttention(WIDTH, 0, HEADS, PER_HEAD)
    target, behaviour, mask = torch.randn(2, 1, 7, WIDTH), torch.randn(2, 1, 9, WIDTH), torch.ones(2, 1, 9, dtype=torch.bool)
    value = torch.randn(2, 1, HEADS, 9, 3)
    with torch.inference_mode():
        _, weight = attention(target, behaviour, mask)  # [2, 1, H, 7, 9]
        found = attend_to_few(attention, target, behaviour, mask, value)
    assert torch.allclose(found, torch.einsum("ughsk,ughkv->ugsv", weight, value), atol=1e-5)


def test_padding_says_nothing_and_a_user_of_nothing_else_gives_zeros():
    attention = TargetAttention(WIDTH, 0, HEADS, PER_HEAD)
    target, behaviour, value = torch.randn(2, 1, 4, WIDTH), torch.randn(2, 1, 6, WIDTH), torch.randn(2, 1, HEADS, 6, 3)
    mask = torch.tensor([[[True, True, False, True, False, False]], [[False] * 6]])
    with torch.inference_mode():
        found = attend_to_few(attention, target, behaviour, mask, value)
        real = mask[0, 0]
        alone = attend_to_few(attention, target[:1], behaviour[:1, :, real], mask[:1, :, real], value[:1, :, :, real])
    assert torch.allclose(found[:1], alone, atol=1e-6)
    assert bool((found[1] == 0).all())
