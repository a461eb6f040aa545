"""What makes SIM that model: hard and soft search, attention without a value matrix, the search's own loss."""

import numpy as np
import torch

from store.search.category import GROUP
from tests.export.models.synthetic import AT, Small, behaviours, category, many, training_inputs


def by_hand(small, target_row, life):
    """softmax(W_b z . W_a e) over the candidate's category, heads side by side: eq. 3-4, in plain loops."""
    model = small.model
    keep = life.category == category(target_row)
    z = torch.cat([small.vectors[life.row[keep]], model.gap(torch.from_numpy(gaps(life)[keep]))], dim=1)
    heads = []
    for h in range(model.config.heads):
        logits = (z @ model.attention.key[h]) @ (small.vectors[target_row] @ model.attention.query[h]) / 2  # sqrt(d_k = 4)
        heads.append(torch.softmax(logits, dim=0) @ z)
    return torch.stack(heads)  # [H, D + side]


def gaps(life):
    from store.gaps import gap_buckets

    return gap_buckets(life.ts, AT)


def test_the_interest_is_attention_over_the_candidates_category_without_a_value_matrix():
    small, life = Small.of("sim_hard"), many(70)
    retrieved, inputs = small.search([11], life)
    sequence = type("S", (), {})()
    sequence.item = torch.nn.functional.embedding(torch.from_numpy(inputs["retrieved_row"]), small.vectors)
    sequence.gap, sequence.mask = (torch.from_numpy(inputs[f"retrieved_{n}"]) for n in ("gap", "mask"))
    target = torch.nn.functional.embedding(torch.from_numpy(inputs["candidate_row"]), small.vectors)
    with torch.no_grad():
        interest = small.model.interest(target, sequence).vector
        expected = by_hand(small, 11, life)
    at = int(np.flatnonzero(retrieved.place == 0)[0])
    dim, heads = small.model.config.dim, small.model.config.heads
    item, side = interest[0, 0, at].split([heads * dim, heads * small.model.config.side_dim])
    assert torch.allclose(item.reshape(heads, -1), expected[:, :dim], atol=1e-5)
    assert torch.allclose(side.reshape(heads, -1), expected[:, dim:], atol=1e-5)


def test_behaviours_of_other_categories_do_not_enter_the_long_interest():
    small = Small.of("sim_hard", recent=0)
    life = many(60)
    own = life.select(life.category == category(11))
    assert np.allclose(small.logits([11], life), small.logits([11], own), atol=1e-6)


def test_the_time_gap_matters():
    small = Small.of("sim_hard", recent=0)
    fresh, old = behaviours([11, 16], gap_s=100), behaviours([11, 16], gap_s=500_000)
    assert not np.allclose(small.logits([11], fresh), small.logits([11], old))


def test_candidates_of_one_category_share_one_list_in_groups_of_four():
    small = Small.of("sim_hard")
    retrieved, inputs = small.search([7, 12, 17, 22, 27, 8], many(60))  # five of one category, one of another
    assert inputs["candidate_row"].shape == (1, 3, GROUP)
    assert sorted(retrieved.place[retrieved.place >= 0].tolist()) == list(range(6))


def test_soft_search_keeps_the_largest_inner_products():
    small, life = Small.of("sim_soft", k=5), many(80)
    retrieved, _ = small.search([11], life)
    with torch.inference_mode():
        behaviour, target = small.vectors @ small.model.from_behaviour, small.vectors[11] @ small.model.from_target
        relevance = (behaviour[life.row] @ target).numpy()
    best = np.lexsort((-np.arange(80), -relevance))[:5]  # equal: the newer
    assert retrieved.index[0].tolist() == sorted(best.tolist())


def test_soft_search_never_takes_padding_for_a_behaviour_of_negative_relevance():
    """Three behaviours, all of negative relevance, K = 5: three are found."""
    small = Small.of("sim_soft", k=5)
    with torch.no_grad():
        small.model.from_behaviour.copy_(-small.model.from_target)
    retrieved, _ = small.search([11], behaviours([11, 11, 11]))
    assert retrieved.mask.sum() == 3


def test_the_search_has_a_click_prediction_of_its_own_in_training_only():
    small = Small.of("sim_soft")
    _, inputs = small.search([5, 9], many(60))
    assert small.forward(inputs).auxiliary_logit is None
    assert not set(small.model.training_reads) & set(small.model.input_names)
    small.model.train()
    scored = small.forward(inputs | training_inputs(inputs), training=True)
    assert scored.auxiliary_logit.shape == scored.logit.shape
    scored.auxiliary_logit.sum().backward()
    assert bool(small.model.from_behaviour.grad.any())
    assert bool(small.model.from_target.grad.any())
    assert small.model.attention.key.grad is None  # the attention's loss is another


def test_the_search_loss_pools_behaviours_by_their_relevance():
    small = Small.of("sim_soft")
    model, rows = small.model.train(), torch.tensor([[7, 9, 12, 0]])
    heard = []
    model.search_head.register_forward_hook(lambda _, parts, out: heard.append(parts[0][0]))
    _, inputs = small.search([5], behaviours([7, 9, 12]))
    drawn = {"sampled_row": rows.numpy().astype(np.int32), "sampled_mask": np.array([[True, True, True, False]])}
    with torch.no_grad():
        small.forward(inputs | training_inputs(inputs) | drawn, training=True)
        item, target = small.vectors[[7, 9, 12]], small.vectors[5]
        relevance = (item @ model.from_behaviour) @ (target @ model.from_target)
        pooled = (relevance[:, None] * item).sum(dim=0) / 3
    assert torch.allclose(heard[0][0, 0], pooled, atol=1e-5)
