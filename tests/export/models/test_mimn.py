"""What makes MIMN that model: NTM read and write, utilisation, induction, one step at a time."""

import numpy as np
import pytest
import torch

from export.models.mimn import EDGE
from tests.export.models.synthetic import Small, behaviours, many


def folded(small, rows):
    """The state after these behaviours, one step at a time."""
    state = {name: value.unsqueeze(0) for name, value in small.model.initial().items()}
    with torch.inference_mode():
        for row in rows:
            state = small.model.step(state, small.vectors[row][None])
    return state


@pytest.fixture
def small():
    return Small.of("mimn")


def test_a_head_addresses_by_the_softmax_of_the_cosine(small):
    reader = small.model.reader
    control, memory = torch.randn(1, 64), torch.randn(1, 8, 16)
    with torch.inference_mode():
        weight = reader(control, memory)[0]
        key = torch.tanh(reader.key(control))[0]
        cosine = torch.nn.functional.cosine_similarity(memory[0], key[None], dim=-1)
        strength = 1 + torch.nn.functional.softplus(reader.strength(control))[0]
    assert torch.allclose(weight, torch.softmax(strength * cosine, dim=0), atol=1e-6)
    assert torch.allclose(reader(control, 7 * memory)[0], weight, atol=1e-6)  # cosine: the length of a slot says nothing


def test_written_weights_sum_to_one_whatever_was_used_before(small):
    for usage in (torch.zeros(1, 8), torch.tensor([[90.0, 1, 0, 0, 3, 0, 0, 6]])):
        weight = small.model.write_weight(torch.randn(1, 64), torch.randn(1, 8, 16), usage)
        assert float(weight.sum().detach()) == pytest.approx(1, abs=1e-5)
        assert bool((weight >= 0).all())


def test_writing_erases_and_adds(small):
    """M = (1 - w (x) e) . M + w (x) a, elementwise."""
    model = small.model
    before = folded(small, [5, 9, 12])
    after = folded(small, [5, 9, 12, 7])
    with torch.inference_mode():
        control = after["control"]
        write = (after["usage"] - before["usage"])[0]
        erase, add = torch.sigmoid(model.erase(control))[0], torch.tanh(model.add(control))[0]
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
        weight = model.reader(after["control"], before["memory"])
        slot = int(weight.argmax())
        seen = torch.cat([after["memory"][0, slot], small.vectors[12]])[None]
        induced = model.induction(seen, before["induction"][0, slot][None])
        share = model.most_read(weight)[0, slot]
    assert torch.allclose(after["induction"][0, slot], torch.lerp(before["induction"][0, slot], induced[0], share), atol=1e-6)


def test_folding_behaviour_by_behaviour_is_the_batch(small):
    _, inputs = small.search([5], many(40))
    arrays = {name: torch.from_numpy(inputs[name]) for name in small.model.batch_names}
    with torch.inference_mode():
        batch = small.model.user(small.vectors, arrays).state
    for name, value in folded(small, many(40).row).items():
        assert torch.allclose(batch[name], value, atol=1e-5), name


def test_order_matters_to_a_memory(small):
    there, back = small.logits([5], behaviours([9, 5, 12])), small.logits([5], behaviours([12, 5, 9]))
    assert not np.allclose(there, back, atol=1e-5)


def test_training_sees_the_newest_behaviours_only(small):
    assert small.model.config.trained_length == 100
    assert Small.of("sdim").model.config.trained_length is None
