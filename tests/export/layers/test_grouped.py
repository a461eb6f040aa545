"""A product and an addend of each group: one group or several, it is the same."""

import torch

from export.layers.grouped import product_plus


def test_each_group_has_its_own_matrix_and_addend():
    addend, rows, matrix = torch.randn(3, 2, 1, 5), torch.randn(3, 2, 7, 4), torch.randn(3, 2, 4, 5)
    assert torch.allclose(product_plus(addend, rows, matrix), addend + rows @ matrix, atol=1e-6)
    one = addend[:1, :1], rows[:1, :1], matrix[:1, :1]
    assert torch.allclose(product_plus(*one), one[0] + one[1] @ one[2], atol=1e-6)
