"""What makes MIMN that model: NTM read and write, utilisation, induction, one step at a time."""

import math

import numpy as np
import pytest
import torch

from export.models.contract import Sequence
from export.models.mimn import EDGE
from export.models.stateful import Update, UserState
from store.graph_inputs import stack
from store.memory import MemoryWriter
from tests.export.models.synthetic import Small, behaviours, many, whole


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


def test_a_step_reads_the_memory_as_it_was_before_writing(small):
    """r = w^r M (eq. 2)."""
    model, before, after = small.model, folded(small, [5, 9, 12]), folded(small, [5, 9, 12, 7])
    with torch.inference_mode():
        control = model.controller(model.controller.known(small.vectors[7][None]), before["read"], before["control"])
        weight = model.address(control, before["memory"])[0][0]
    assert torch.allclose(after["control"], control, atol=1e-6)
    assert torch.allclose(after["read"][0], weight @ before["memory"][0], atol=1e-6)
    assert not torch.allclose(after["read"][0], weight @ after["memory"][0], atol=1e-3)


def test_the_target_goes_through_the_controller_and_reads_the_memory(small):
    model, state, rows = small.model, folded(small, [5, 9, 12, 7, 9]), [9, 30]
    with torch.inference_mode():
        found = model.interest(small.vectors[rows][None, None], UserState(state, {}))
        for place, row in enumerate(rows):
            target = small.vectors[row]
            control = model.controller(model.controller.known(target[None]), state["read"], state["control"])
            read = model.address(control, state["memory"])[0][0] @ state["memory"][0]
            query = target @ model.channels.query / math.sqrt(model.channels.head_dim)  # [H, d_k]
            logit = torch.einsum("hd,hde,se->hs", query, model.channels.key.transpose(1, 2), state["induction"][0])
            induced = (torch.softmax(logit, dim=1) @ state["induction"][0]).mean(dim=0)
            assert torch.allclose(found.like_target[0, 0, place], read, atol=1e-6)
            assert torch.allclose(whole(found)[0, 0, place], torch.cat([read, induced]), atol=1e-6)
    assert not torch.allclose(found.like_target[0, 0, 0], found.like_target[0, 0, 1], atol=1e-3)


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


def test_a_long_life_folded_in_parts_gives_the_same_state(small, monkeypatch):
    inputs = stack([small.search([5], many(length))[1] for length in (0, 7, 40)])
    arrays = {name: torch.from_numpy(inputs[name]) for name in small.model.batch_names}
    with torch.inference_mode():
        at_once = small.model.user(small.vectors, arrays).state
        parts, fold_some = [], small.model._fold_some
        monkeypatch.setattr("export.models.mimn.FOLDED_AT_ONCE", 3)
        monkeypatch.setattr(small.model, "_fold_some", lambda *given: parts.append(given[1].shape[1]) or fold_some(*given))
        in_parts = small.model.user(small.vectors, arrays).state
    assert parts == [3] * 13 + [1]
    for name, value in at_once.items():
        assert torch.allclose(in_parts[name], value, atol=1e-6), name


def test_the_update_graph_called_behaviour_by_behaviour_gives_that_state(small):
    model, rows = small.model, many(12).row
    given = model.tables(small.vectors)
    tables = [torch.from_numpy(given[name]) for name in model.graph_tables]
    state = [torch.from_numpy(given[f"initial_{name}"])[None] for name in model.state_axes]
    with torch.inference_mode():
        for row in rows:
            state = Update(model)(small.vectors, *tables, *state, torch.tensor([[[row]]], dtype=torch.int32))
    expected = folded(small, rows)
    for name, value in zip(model.state_axes, state, strict=True):
        assert torch.allclose(value, expected[name], atol=1e-6), name


@pytest.mark.parametrize("sizes", [{}, {"slots": 5, "induced": 2, "controller_dim": 30}])
def test_the_kernel_folds_what_torch_folds(sizes):
    small = Small.of("mimn", **sizes)
    with torch.no_grad():
        for parameter in small.model.parameters():  # W_g is zero at first
            parameter.add_(0.05 * torch.randn_like(parameter))
    model, rows = small.model, many(60).row
    state = {name: value.detach().numpy()[None] for name, value in model.initial().items()}
    feed = state | {"behaviour_row": np.asarray(rows, np.int32)[None, None]}
    found = MemoryWriter(model.weights_to_fold()).run(feed, small.vectors.numpy())
    for name, array, expected in zip(state, found, folded(small, rows).values(), strict=True):
        assert np.allclose(array, expected.numpy(), atol=1e-4), name


def test_padding_leaves_every_part_of_the_state_as_it_was(small):
    state = folded(small, [5, 9, 12])
    item, nothing = small.vectors[[7, 30]][None, None], torch.zeros(1, 1, 2, dtype=torch.bool)
    with torch.inference_mode():
        after = small.model.fold(state, Sequence(item, nothing, {}, small.vectors))
    for name, value in state.items():
        assert torch.equal(after[name], value), name
