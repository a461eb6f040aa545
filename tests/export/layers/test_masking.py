"""The one masked softmax."""

import torch

from export.layers.masking import masked_softmax


def test_real_entries_share_the_whole_weight():
    weight = masked_softmax(torch.tensor([[0.0, 0.0, 50.0]]), torch.tensor([[True, True, False]]))
    assert weight.tolist() == [[0.5, 0.5, 0.0]]


def test_a_row_of_padding_gives_zeros():
    weight = masked_softmax(torch.randn(2, 4), torch.zeros(2, 4, dtype=torch.bool))
    assert weight.tolist() == [[0.0] * 4] * 2


def test_nothing_on_the_way_is_too_small_to_be_a_normal_number():
    """Or the service's softmax is ten times as slow: what is far below the largest counts e^-80."""
    weight = masked_softmax(torch.tensor([[0.0, -103.0, -90.0, -79.0, 5.0]]), torch.tensor([[True, True, True, True, False]]))
    assert weight[0, :3].tolist() == [1.0, weight[0, 2].item(), weight[0, 2].item()]
    assert weight[0, 2] > torch.finfo(torch.float32).tiny
    assert torch.allclose(weight[0, 3], torch.tensor(-79.0).exp(), rtol=1e-5)


def test_padding_never_beats_a_negative_logit():
    weight = masked_softmax(torch.tensor([[-80.0, 0.0]]), torch.tensor([[True, False]]))
    assert weight.tolist() == [[1.0, 0.0]]
