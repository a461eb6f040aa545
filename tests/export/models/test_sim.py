"""What makes SIM with hard search SIM with hard search."""

import numpy as np
import torch

from store.search.category import GROUP
from tests.export.models.synthetic import AT, Small, behaviours, category, many


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
    sequence.cross, sequence.mask = (torch.from_numpy(inputs[f"retrieved_{n}"]) for n in ("cross", "mask"))
    target = torch.nn.functional.embedding(torch.from_numpy(inputs["candidate_row"]), small.vectors)
    with torch.no_grad():
        interest, _, _ = small.model.interest(target, sequence)
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
