"""What makes DSIN DSIN."""

import numpy as np
import pytest
import torch
from torch import nn

from export.models import build
from export.models.dsin import BiLSTM, SessionInterest
from store.types import Behaviours
from tests.export.models.synthetic import AT, SHAPE, Small, category, many, whole

MINUTE = 60


def baskets(*sessions, apart_s=9000, within_s=MINUTE):
    """A life of these sessions of rows, oldest first."""
    rows = np.concatenate(sessions).astype(np.int32)
    steps = [apart_s if i == 0 else within_s for session in sessions for i in range(len(session))]
    ts = AT - 1 - (np.sum(steps) - np.cumsum(steps)).astype(np.int64)
    return Behaviours(rows, category(rows), ts, np.zeros((len(rows), 1), np.uint8))


def extractor(**sizes):
    torch.manual_seed(0)
    return SessionInterest(**{"sessions": 2, "length": 3, "dim": 6, "heads": 2, "head_dim": 3} | sizes)


ALL = torch.ones(1, 2, 3, dtype=torch.bool)


def test_a_gap_of_more_than_thirty_minutes_is_another_session():
    small = Small.of("dsin")
    together, at_the_limit, apart = (
        small.logits([5, 8], baskets([7, 9, 11], [13, 15], apart_s=gap)) for gap in (MINUTE, 30 * MINUTE, 30 * MINUTE + 1)
    )
    assert np.array_equal(together, at_the_limit)
    assert not np.allclose(together, apart, atol=1e-4)


def test_five_sessions_of_ten_are_read():
    small = Small.of("dsin")
    rows = np.random.default_rng(0).integers(2, 40, (6, 12))
    life = baskets(*rows)
    read = np.concatenate([np.arange(12 * s + 2, 12 * s + 12) for s in range(1, 6)])
    assert np.array_equal(small.logits([5, 8], life), small.logits([5, 8], life.select(read)))


def test_bias_encoding_is_the_sum_of_a_session_a_place_and_a_unit():
    """K + T + d parameters, added to the item vectors (eq. 2-3)."""
    extract, plain = extractor(), extractor()
    biases = [extract.session_bias, extract.place_bias, extract.unit_bias]
    assert [bias.numel() for bias in biases] == [2, 3, 6]
    with torch.no_grad():
        for bias in biases:
            bias.normal_()
    item = torch.randn(4, 2, 3, 6)
    encoding = torch.stack(
        [torch.stack([biases[0][k].flatten() + biases[1][t] + biases[2] for t in range(3)]) for k in range(2)]
    )  # [K, T, d]
    assert torch.allclose(extract(item, ALL), plain(item + encoding, ALL), atol=1e-6)
    assert not torch.allclose(extract(item, ALL), plain(item, ALL), atol=1e-2)


def test_attention_stays_inside_a_session_and_shares_its_weights():
    extract = extractor()
    item = torch.randn(1, 2, 3, 6)
    other = item.clone()
    other[0, 1, 2] += 3
    assert torch.equal(extract(item, ALL)[:, 0], extract(other, ALL)[:, 0])
    assert not torch.allclose(extract(item, ALL)[:, 1], extract(other, ALL)[:, 1], atol=1e-3)
    twice = item[:, :1].expand(-1, 2, -1, -1)
    assert torch.allclose(*extract(twice, ALL)[0], atol=1e-6)


def test_the_interest_of_a_session_is_the_mean_over_its_real_behaviours():
    extract = extractor()
    item = torch.randn(1, 2, 3, 6)
    mask = torch.tensor([[[True, True, False], [False, False, False]]])
    shorter = extractor(length=2)
    shorter.load_state_dict(extract.state_dict() | {"place_bias": torch.zeros(2, 1)})
    assert torch.allclose(extract(item, mask)[:, 0], shorter(item[:, :, :2], mask[:, :, :2])[:, 0], atol=1e-6)
    assert not extract(item, mask)[0, 1].any()
    x = extract.attended(item + extract.out(extract.attention(item, ALL.unsqueeze(-2)).transpose(2, 3).flatten(3)))
    expected = extract.fed(x + extract.feed_forward(x)).mean(dim=2)  # residual and layer norm after both
    assert torch.allclose(extract(item, ALL), expected, atol=1e-6)


def test_the_lstm_runs_both_ways_and_averages():
    torch.manual_seed(0)
    ours, library = BiLSTM(4), nn.LSTM(4, 4, bidirectional=True, batch_first=True)
    weights = {
        f"{name}_l0{suffix}": weight
        for cell, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse"))
        for name, weight in cell.state_dict().items()
    }
    library.load_state_dict(weights)
    interest = torch.randn(3, 5, 4)
    expected = library(interest)[0].unflatten(-1, (2, 4)).mean(dim=-2)
    assert torch.allclose(ours(interest, torch.ones(3, 5, dtype=torch.bool)), expected, atol=1e-6)


def test_a_session_that_is_not_there_keeps_the_state():
    torch.manual_seed(0)
    lstm, interest = BiLSTM(4), torch.randn(1, 5, 4)
    mask = torch.tensor([[False, True, False, True, True]])
    alone = lstm(interest[:, mask[0]], torch.ones(1, 3, dtype=torch.bool))
    assert torch.allclose(lstm(interest, mask)[:, mask[0]], alone, atol=1e-6)


def test_two_activation_units_meet_the_same_target():
    """U^I and U^H (eq. 9-10), candidate by candidate."""
    small = Small.of("dsin")
    model = small.model
    seen = {}
    model.extract.register_forward_hook(lambda *call: seen.update(interest=call[2][0]))
    model.interact.register_forward_hook(lambda *call: seen.update(hidden=call[2][0]))
    _, inputs = small.search([5, 8, 12], baskets([7, 9], [11], [13, 15]))
    batch = {name: torch.from_numpy(inputs[name]) for name in model.input_names}
    target = small.vectors[[5, 8, 12]]
    found = model.interest(target[None, None], model.user(small.vectors, batch))
    for s, x in enumerate(target):
        expected = []
        for kept, unit in ((seen["interest"][2:], model.interest_unit), (seen["hidden"][2:], model.hidden_unit)):
            expected.append(torch.softmax(torch.stack([k @ unit @ x for k in kept]), dim=0) @ kept)
        assert torch.allclose(whole(found)[0, 0, s], torch.cat(expected), atol=1e-5)


def test_sessions_are_worked_out_once_a_request_whatever_the_candidates():
    small = Small.of("dsin")
    shapes = []
    for part in (small.model.extract, small.model.interact):
        part.register_forward_hook(lambda _, given, out: shapes.append(tuple(given[0].shape)))
    small.logits(list(range(2, 20)), many(30))
    assert shapes == [(1, 5, 10, 16), (1, 5, 16)]


def test_what_stands_at_padding_does_not_matter():
    small = Small.of("dsin")
    _, inputs = small.search([5, 8], baskets([7, 9], [11], [13, 15]))
    filled = inputs | {"retrieved_row": np.where(inputs["retrieved_mask"], inputs["retrieved_row"], 9).astype(np.int32)}
    assert torch.equal(small.forward(inputs).logit, small.forward(filled).logit)


def test_a_k_that_is_not_five_sessions_is_refused():
    with pytest.raises(ValueError, match="k is 52, it must be a multiple of 5"):
        build("dsin", SHAPE, k=52)
