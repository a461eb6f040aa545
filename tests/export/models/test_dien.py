"""What makes DIEN DIEN."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from export.models.dien import AttentionalGRU
from tests.export.models.synthetic import Small, behaviours, many

every_gate = pytest.mark.parametrize("gate", ["augru", "aigru", "agru"])

WIDTH, HIDDEN = 6, 5


def evolution(gate: str) -> AttentionalGRU:
    torch.manual_seed(3)
    return AttentionalGRU(WIDTH, HIDDEN, gate)


def plain_gru(of: AttentionalGRU) -> torch.nn.GRU:
    """torch's GRU with the same weights: blocks r, z, n, where z = 1 - u keeps."""
    gru = torch.nn.GRU(WIDTH, HIDDEN, batch_first=True)

    def in_torchs_order(blocks):
        fresh, reset, update = blocks.chunk(3)
        return torch.cat([reset, -update, fresh])

    with torch.no_grad():
        gru.weight_ih_l0.copy_(in_torchs_order(of.from_input.weight))
        gru.weight_hh_l0.copy_(in_torchs_order(of.from_state.weight))
        gru.bias_ih_l0.copy_(in_torchs_order(of.from_input.bias))
        gru.bias_hh_l0.zero_()
    return gru


def one_user(length: int, places: int = 1, seed: int = 1):
    """states [1, L, WIDTH], attention [1, S, L], mask [1, L], all real."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(1, length, WIDTH, generator=generator)
    return states, torch.rand(1, places, length, generator=generator), torch.ones(1, length, dtype=torch.bool)


def with_others(states: torch.Tensor, from_place: int) -> torch.Tensor:
    """The same, but for the states from a place on."""
    others = torch.randn(states[:, from_place:].shape, generator=torch.Generator().manual_seed(9))
    return torch.cat([states[:, :from_place], others], dim=1)


def training_inputs(small: Small, life, negatives) -> dict[str, torch.Tensor]:
    """Inputs of a batch of one request, with negatives at the places of the behaviours."""
    _, inputs = small.search([5, 9], life)
    negative = np.zeros_like(inputs["retrieved_row"])
    negative[0, 0, : len(negatives)] = negatives
    return {name: torch.from_numpy(inputs[name]) for name in small.model.input_names} | {
        "negative_row": torch.from_numpy(negative)
    }


# The auxiliary loss


def test_the_auxiliary_loss_by_hand():
    """-log sig(h_t . e_t+1) - log(1 - sig(h_t . n_t+1)), on torch's GRU, mean over the pairs, times alpha."""
    small = Small.of("dien", alpha=0.5)
    life, negatives = [7, 9, 12], [3, 4, 8]
    states, _ = small.model.extractor(small.vectors[life][None])
    terms = []
    for t in range(2):
        yes, no = ((states[0, t] @ small.vectors[row[t + 1]]).item() for row in (life, negatives))
        terms.append(-math.log(1 / (1 + math.exp(-yes))) - math.log(1 - 1 / (1 + math.exp(-no))))
    found = small.model.train()(small.vectors, training_inputs(small, behaviours(life), negatives)).auxiliary_loss
    assert found.item() == pytest.approx(0.5 * sum(terms) / 2, abs=1e-6)


def test_foreseeing_the_next_behaviour_loses_less_than_foreseeing_the_negative():
    """States that point at item 9: right if 9 follows and 4 is the negative, wrong the other way."""
    small = Small.of("dien")
    small.model.train().extractor.forward = lambda item: (small.vectors[9].expand_as(item), None)
    right = small.model(small.vectors, training_inputs(small, behaviours([7, 9]), [3, 4])).auxiliary_loss
    wrong = small.model(small.vectors, training_inputs(small, behaviours([7, 4]), [3, 9])).auxiliary_loss
    assert right < wrong


def test_the_auxiliary_loss_is_in_training_only():
    small = Small.of("dien")
    inputs = training_inputs(small, behaviours([7, 9, 12]), [3, 4, 8])
    assert small.model.train()(small.vectors, inputs).auxiliary_loss > 0
    assert small.model.eval()(small.vectors, inputs).auxiliary_loss is None


def test_training_without_negatives_has_no_auxiliary_loss():
    small = Small.of("dien")
    inputs = training_inputs(small, behaviours([7, 9, 12]), [3, 4, 8])
    del inputs["negative_row"]
    assert small.model.train()(small.vectors, inputs).auxiliary_loss is None


@pytest.mark.parametrize("life", [[], [7]])
def test_a_user_without_a_next_behaviour_has_nothing_to_tell(life):
    small = Small.of("dien")
    assert small.model.train()(small.vectors, training_inputs(small, behaviours(life), life)).auxiliary_loss == 0


def test_the_auxiliary_loss_trains_the_extractor_and_the_items_only():
    small = Small.of("dien")
    inputs = training_inputs(small, behaviours([7, 9, 12]), [3, 4, 8])
    vectors = small.vectors.clone().requires_grad_()
    small.model.train()(vectors, inputs).auxiliary_loss.backward()
    reached = {name.split(".")[0] for name, parameter in small.model.named_parameters() if parameter.grad is not None}
    assert reached == {"extractor"}
    assert vectors.grad[[7, 9, 12, 4, 8]].any(dim=1).all()


def test_no_graph_reads_negatives():
    small = Small.of("dien")
    assert small.model.training_reads == ("negative_row",)
    assert small.model.input_names == ["candidate_row", "retrieved_row", "retrieved_mask", "context"]


# Attention


def test_attention_is_the_softmax_over_time_of_the_bilinear_form():
    """Eq. 8, by hand on the states of torch's GRU."""
    small, life = Small.of("dien"), [7, 9, 12]
    torch.nn.init.normal_(small.model.attention.weight)  # no symmetric matrix
    _, inputs = small.search([5], behaviours(life))
    weight = small.forward(inputs).weight[0, 0]
    states, _ = small.model.extractor(small.vectors[life][None])
    logits = torch.stack([h @ small.model.attention.weight @ small.vectors[5] for h in states[0]])
    assert torch.allclose(weight[:3], torch.softmax(logits, dim=0), atol=1e-6)
    assert not weight[3:].any()


def test_before_training_attention_prefers_what_resembles_the_target():
    small = Small.of("dien")
    _, inputs = small.search([5], behaviours([12, 30, 5, 14, 31]))
    assert small.forward(inputs).weight[0, 0].argmax() == 2


def test_the_order_of_the_behaviours_matters():
    small = Small.of("dien")
    assert not np.allclose(small.logits([5], behaviours([7, 9, 12])), small.logits([5], behaviours([12, 9, 7])), atol=1e-4)


def test_the_first_gru_runs_once_a_user_not_once_a_candidate():
    small = Small.of("dien")
    shapes = []
    small.model.extractor.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    small.logits([5, 9, 12, 33], many(60))
    assert shapes == [(1, 50, 16)]


# The second GRU


def test_augru_under_full_attention_is_a_gru():
    cell = evolution("augru")
    states, _, mask = one_user(4)
    _, last = plain_gru(cell)(states)
    assert torch.allclose(cell(states, torch.ones(1, 1, 4), mask), last, atol=1e-6)


def test_augru_without_attention_keeps_the_state():
    """Eq. 12 with a_t = 0; a cell that scales the keep gate would take on 1 - u of the new state."""
    cell = evolution("augru")
    states, attention, mask = one_user(4)
    attention[..., 2:] = 0
    evolved = cell(states, attention, mask)
    assert torch.equal(evolved, cell(with_others(states, 2), attention, mask))
    assert torch.allclose(evolved, cell(states[:, :2], attention[..., :2], mask[:, :2]), atol=1e-6)  # products of another shape
    assert evolved.any()


def test_augru_scales_the_update_gate():
    """Eq. 11-12 by hand, half attention: halfway between the state and a GRU's step."""
    cell = evolution("augru")
    states, attention, mask = one_user(2)
    attention[..., 0], attention[..., 1] = 1, 0.5
    all_steps, _ = plain_gru(cell)(states)
    assert torch.allclose(cell(states, attention, mask)[0, 0], (all_steps[0, 0] + all_steps[0, 1]) / 2, atol=1e-6)


def test_aigru_is_a_gru_over_inputs_times_attention():
    cell = evolution("aigru")
    states, attention, mask = one_user(4)
    _, last = plain_gru(cell)(states * attention.transpose(1, 2))
    assert torch.allclose(cell(states, attention, mask), last, atol=1e-6)


def test_agru_has_attention_in_the_place_of_the_update_gate():
    """Eq. 10, step by step: h = (1 - a) h + a h~, h~ = tanh(W x + b + r o (U h))."""
    cell = evolution("agru")
    states, attention, mask = one_user(3)
    h = torch.zeros(HIDDEN)
    for t in range(3):
        fresh_x, reset_x = linear(states[0, t], cell.from_input.weight, cell.from_input.bias).chunk(2)
        fresh_h, reset_h = linear(h, cell.from_state.weight).chunk(2)
        fresh = torch.tanh(fresh_x + torch.sigmoid(reset_x + reset_h) * fresh_h)
        h = (1 - attention[0, 0, t]) * h + attention[0, 0, t] * fresh
    assert torch.allclose(cell(states, attention, mask)[0, 0], h, atol=1e-6)


@every_gate
def test_padding_leaves_the_state_as_it_is(gate):
    """Whatever states stand behind the real ones."""
    cell = evolution(gate)
    states, attention, mask = one_user(5)
    attention[..., 3:], mask[:, 3:] = 0, False
    evolved = cell(states, attention, mask)
    assert torch.equal(evolved, cell(with_others(states, 3), attention, mask))
    assert torch.allclose(evolved, cell(states[:, :3], attention[..., :3], mask[:, :3]), atol=1e-6)  # products of another shape


@every_gate
def test_each_candidate_has_its_own_run(gate):
    cell = evolution(gate)
    states, attention, mask = one_user(4, places=3)
    one_by_one = [cell(states, attention[:, s : s + 1], mask) for s in range(3)]
    assert torch.allclose(cell(states, attention, mask), torch.cat(one_by_one, dim=1), atol=1e-6)


@every_gate
def test_every_gate_makes_a_model_whose_padding_changes_nothing(gate):
    small = Small.of("dien", gate=gate)
    before = small.logits([5, 9], behaviours([7, 12]))
    small.vectors[0] = 3.0  # of the padding behaviours
    assert np.array_equal(small.logits([5, 9], behaviours([7, 12])), before)


@every_gate
def test_every_gate_trains_all_its_parameters(gate):
    small = Small.of("dien", gate=gate)
    small.model.train()(small.vectors, training_inputs(small, many(30), [3] * 30)).logit.sum().backward()
    assert all(parameter.grad.any() for parameter in small.model.evolution.parameters())


def test_only_the_newest_fifty_are_read():
    small = Small.of("dien")
    life = many(80)
    assert np.array_equal(small.logits([5, 8], life), small.logits([5, 8], life.select(slice(30, None))))
    assert not np.array_equal(small.logits([5, 8], life), small.logits([5, 8], life.select(slice(31, None))))
