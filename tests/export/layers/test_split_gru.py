"""The split cell is torch's GRU cell with its input in two parts."""

import torch

from export.layers.split_gru import SplitGRUCell


def test_it_is_torchs_gru_of_both_parts_together():
    split, whole = SplitGRUCell(5, 3, 7), torch.nn.GRUCell(8, 7)
    with torch.no_grad():
        whole.weight_ih.copy_(torch.cat([split.known.weight, split.found.weight], dim=1))
        whole.weight_hh.copy_(split.hidden.weight)
        whole.bias_ih.copy_(split.known.bias)
        whole.bias_hh.copy_(split.hidden.bias)
    known, found, hidden = torch.randn(4, 5), torch.randn(4, 3), torch.randn(4, 7)
    assert torch.allclose(split(split.known(known), found, hidden), whole(torch.cat([known, found], dim=1), hidden), atol=1e-6)


def test_many_inputs_of_one_past_are_each_a_step_of_their_own():
    cell = SplitGRUCell(5, 3, 7)
    known, found, hidden = torch.randn(2, 1, 6, 5), torch.randn(2, 1, 1, 3), torch.randn(2, 1, 1, 7)
    each = cell.of_many(known, found, hidden)
    for user in range(2):
        for i in range(6):
            expected = cell(cell.known(known[user, :, i]), found[user, :, 0], hidden[user, :, 0])
            assert torch.allclose(each[user, :, i], expected, atol=1e-6)


def test_at_first_it_can_be_made_to_pass_on_its_input():
    cell = SplitGRUCell(16, 16, 16)
    cell.begin_as_input()
    known, past = torch.randn(200, 16), torch.randn(200, 16)
    hidden = cell(cell.known(known), past, torch.tanh(past))
    like = torch.nn.functional.cosine_similarity
    assert float(like(hidden, known, dim=-1).mean().detach()) > 0.8
    assert abs(float(like(hidden, past, dim=-1).mean().detach())) < 0.3
