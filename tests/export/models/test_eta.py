"""What makes ETA ETA."""

import numpy as np
import torch

from store.signatures import BITS
from tests.export.models.synthetic import Small, behaviours, many


def test_a_bit_is_the_sign_of_the_product_with_a_fixed_random_direction():
    small = Small.of("eta")
    signature = small.model.tables(small.vectors)["signature"]
    bits = (small.vectors.numpy() @ small.model.directions.numpy()) > 0
    assert [[bool(int(word) >> j & 1) for j in range(BITS)] for word in signature] == bits.tolist()


def test_the_directions_are_no_parameter_but_are_saved():
    model = Small.of("eta").model
    assert "directions" in model.state_dict()
    assert "directions" not in dict(model.named_parameters())
    other = Small.of("eta", seed=9).model
    assert torch.equal(model.directions, other.directions), "they come from the model's own seed"


def test_signatures_follow_the_vectors():
    small = Small.of("eta")
    before = small.model.tables(small.vectors)["signature"]
    assert (small.model.tables(-small.vectors)["signature"][2:] == ~before[2:]).all()


def test_of_behaviours_equally_near_the_newer_is_retrieved():
    small = Small.of("eta", k=1)
    small.vectors[12] = small.vectors[9]  # another item of the same signature
    for rows, newest in (([9, 9], 1), ([9, 12], 1), ([12, 9], 1), ([9, 12, 9], 2), ([5, 12, 9], 0)):
        candidate = 5 if 5 in rows else 7
        assert small.search([candidate], behaviours(rows))[0].index.tolist() == [[newest]], rows


def test_retrieving_the_whole_life_is_full_attention():
    life = many(40)
    all_of_it = Small.of("eta", k=40)
    retrieved, _ = all_of_it.search([5, 9], life)
    assert retrieved.index.tolist() == [list(range(40))] * 2
    longer_k = Small.of("eta", k=100)
    assert np.array_equal(all_of_it.logits([5, 9], life), longer_k.logits([5, 9], life))


def test_no_gradient_goes_through_the_search_yet_retrieved_vectors_learn():
    small = Small.of("eta", k=3, recent=0)
    retrieved, inputs = small.search([5], many(50))
    vectors = small.vectors.clone().requires_grad_()
    small.model(vectors, {n: torch.from_numpy(inputs[n]) for n in small.model.input_names})[0].sum().backward()
    touched = set(torch.nonzero(vectors.grad.abs().sum(dim=1)).flatten().tolist())
    assert touched == {5, *many(50).row[retrieved.index[0]].tolist()}
