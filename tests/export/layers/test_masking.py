"""The one masked softmax."""

import torch

from export.layers.masking import masked_softmax


def test_real_entries_share_the_whole_weight():
    weight = masked_softmax(torch.tensor([[0.0, 0.0, 50.0]]), torch.tensor([[True, True, False]]))
    assert weight.tolist() == [[0.5, 0.5, 0.0]]


def test_a_row_of_padding_gives_zeros():
    weight = masked_softmax(torch.randn(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    assert weight.tolist() == [[0.0] * 4] * 2


def test_padding_never_beats_a_negative_logit():
    weight = masked_softmax(torch.tensor([[-80.0, 0.0]]), torch.tensor([[True, False]]))
    assert weight.tolist() == [[1.0, 0.0]]
