"""What makes MIMN that model: NTM read and write, utilisation, induction, one step at a time."""

import numpy as np
import pytest
import torch

from export.models.contract import Sequence
from export.models.mimn import EDGE
from tests.export.models.synthetic import Small, behaviours, many


def folded(small, rows):
    """The state after these behaviours, folded one at a time."""
    state = {name: value.unsqueeze(0) for name, value in small.model.initial().items()}
    with torch.inference_mode():
        for row in rows:
            item, mask = small.vectors[row][None, None, None], torch.ones(1, 1, 1, dtype=torch.bool)
            state = small.model.fold(state, Sequence(item, mask, {}, small.vectors))
    return state


@pytest.fixture
def small():
    return Small.of("mimn")


def test_heads_address_by_the_softmax_of_the_cosine(small):
    model = small.model
    control, memory = torch.randn(1, 64), torch.randn(1, 8, 16)
    with torch.inference_mode():
        read, write = model.address(control, memory)
        for weight, head in zip((read, write), model.heads(control)[0].view(2, 17), strict=True):
            key, strength = torch.tanh(head[:16]), 1 + torch.nn.functional.softplus(head[16])
            cosine = torch.nn.functional.cosine_similarity(memory[0], key[None], dim=-1)
            assert torch.allclose(weight[0], torch.softmax(strength * cosine, dim=0), atol=1e-6)
        longer = model.address(control, 7 * memory)
    assert torch.allclose(longer[0], read, atol=1e-6)  # cosine: the length of a slot says nothing


def test_written_weights_sum_to_one_whatever_was_used_before(small):
    for usage in (torch.zeros(1, 8), torch.tensor([[90.0, 1, 0, 0, 3, 0, 0, 6]])):
        weight = small.model.moved(torch.softmax(torch.randn(1, 8), dim=-1), usage)
        assert float(weight.sum().detach()) == pytest.approx(1, abs=1e-5)
        assert bool((weight >= 0).all())


def test_writing_moves_away_from_slots_much_used_once_that_is_learnt(small):
    """P = softmax(W_g g): W_g can send what was meant for a full slot to another."""
    model, full = small.model, torch.tensor([[50.0, 0, 0, 0, 0, 0, 0, 0]])
    meant = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]])
    stays = float(model.moved(meant, full)[0, 0].detach())
    with torch.no_grad():
        model.spread[0, 5, 0] = 9.0  # row: where from, column: where to, last: whose use
    assert stays > 0.8
    assert int(model.moved(meant, full).argmax()) == 5
    assert int(model.moved(meant, torch.zeros(1, 8)).argmax()) == 0


def test_before_it_is_trained_a_behaviour_is_kept_where_its_like_stands(small):
    """What makes it learn: a target like what was written reads it back, from the first step on."""
    model, like = small.model, torch.nn.functional.cosine_similarity
    state = folded(small, [5, 9, 12, 7, 30, 31] * 3)
    with torch.inference_mode():
        for row in (5, 9, 12, 7):
            control = model.controller(model.controller.known(small.vectors[row][None]), state["read"], state["control"])
            read = torch.matmul(model.address(control, state["memory"])[0].unsqueeze(1), state["memory"])[0, 0]
            assert float(like(read, small.vectors[row], dim=0)) > 0.2


def test_writing_erases_and_adds(small):
    """M = (1 - w (x) e) . M + w (x) a, elementwise."""
    model = small.model
    before = folded(small, [5, 9, 12])
    after = folded(small, [5, 9, 12, 7])
    with torch.inference_mode():
        erase, add = model.writing(after["control"])[0].chunk(2)
        write, erase, add = (after["usage"] - before["usage"])[0], torch.sigmoid(erase), torch.tanh(add)
        expected = (1 - torch.outer(write, erase)) * before["memory"][0] + torch.outer(write, add)
    assert torch.allclose(after["memory"][0], expected, atol=1e-6)


def test_utilisation_counts_one_write_a_behaviour_and_its_loss_falls_with_evenness(small):
    assert float(folded(small, [5, 9, 12, 7]).pop("usage").sum()) == pytest.approx(4, abs=1e-4)
    model = small.model.train()
    uneven, even = model._uneven(torch.tensor([[8.0, 0, 0, 0, 0, 0, 0, 0]])), model._uneven(torch.ones(1, 8))
    assert float(even) == pytest.approx(0, abs=1e-9)
    assert float(uneven) == pytest.approx(model.config.utilisation * (0.875**2 + 7 * 0.125**2))
    assert model.eval()._uneven(torch.ones(1, 8)) is None


def test_only_the_most_read_slots_are_induced(small):
    weight = torch.tensor([[0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]])
    assert small.model.most_read(weight).tolist() == [[1, 0, 0, 0, 0, 0, 0, 0]]
    tied = torch.tensor([[0.3, 0.3, 0.4 / 6, 0.4 / 6, 0.4 / 6, 0.4 / 6, 0.4 / 6, 0.4 / 6]])
    assert small.model.most_read(tied)[0, :2].tolist() == [0.5, 0.5]  # no rounding decides between two alike
    near = tied + torch.tensor([[EDGE / 10, 0, 0, 0, 0, 0, 0, 0]])
    assert float(small.model.most_read(near)[0, 0]) == pytest.approx(0.55, abs=1e-3)


def test_induction_is_a_gru_of_the_slot_and_the_behaviour(small):
    model = small.model
    before, after = folded(small, [5, 9]), folded(small, [5, 9, 12])
    with torch.inference_mode():
        weight = model.address(after["control"], before["memory"])[0]
        slot = int(weight.argmax())
        cell = model.induction
        induced = cell(cell.known(small.vectors[12][None]), after["memory"][0, slot][None], before["induction"][0, slot][None])
        share = model.most_read(weight)[0, slot]
    assert torch.allclose(after["induction"][0, slot], torch.lerp(before["induction"][0, slot], induced[0], share), atol=1e-6)


def test_folding_behaviour_by_behaviour_is_the_batch(small):
    _, inputs = small.search([5], many(40))
    arrays = {name: torch.from_numpy(inputs[name]) for name in small.model.batch_names}
    with torch.inference_mode():
        batch = small.model.user(small.vectors, arrays).state
    for name, value in folded(small, many(40).row).items():
        assert torch.allclose(batch[name], value, atol=1e-4), name


def test_order_matters_to_a_memory(small):
    there, back = small.logits([5], behaviours([9, 5, 12])), small.logits([5], behaviours([12, 5, 9]))
    assert not np.allclose(there, back, atol=1e-5)


def test_training_sees_the_newest_behaviours_only(small):
    assert small.model.config.trained_length == 100
    assert Small.of("sdim").model.config.trained_length is None
