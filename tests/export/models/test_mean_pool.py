"""What makes the mean pooling a mean pooling."""

import numpy as np
import torch

from tests.export.models.synthetic import Small, behaviours, many, whole


def interest(small: Small, rows, life) -> torch.Tensor:
    """[U, G, S, D]."""
    _, inputs = small.search(rows, life)
    tensors = {name: torch.from_numpy(inputs[name]) for name in small.model.input_names}
    target = small.vectors[tensors["candidate_row"]]
    with torch.inference_mode():
        return whole(small.model.interest(target, small.model.user(small.vectors, tensors)))


def test_the_interest_is_the_mean_of_the_behaviours_vectors():
    small = Small.of("mean_pool")
    mean = small.vectors[[7, 7, 12, 30]].mean(dim=0)
    assert torch.allclose(interest(small, [5], behaviours([7, 7, 12, 30]))[0, 0, 0], mean, atol=1e-6)


def test_it_is_the_same_for_every_target():
    found = interest(Small.of("mean_pool"), [5, 9, 33], many(20))
    assert found.shape == (1, 1, 3, 16)
    assert torch.equal(found[0, 0], found[0, 0, :1].expand(3, -1))


def test_length_does_not_change_its_scale():
    """A sum would be four times as long."""
    small = Small.of("mean_pool")
    assert np.allclose(small.logits([5], behaviours([7, 9])), small.logits([5], behaviours([7, 9] * 4)), atol=1e-6)


def test_the_order_does_not_matter():
    small = Small.of("mean_pool")
    assert np.allclose(small.logits([5], behaviours([7, 9, 12])), small.logits([5], behaviours([12, 7, 9])), atol=1e-6)


def test_the_mask_decides_not_the_vector_of_padding():
    """Whatever stands at row 0, padding is neither added nor counted."""
    small = Small.of("mean_pool")
    before = small.logits([5], behaviours([7, 9]))
    small.vectors[0] = 3.0
    assert np.array_equal(small.logits([5], behaviours([7, 9])), before)


def test_the_empty_users_interest_is_zero():
    assert not interest(Small.of("mean_pool"), [5], many(0)).any()


def test_only_the_newest_fifty_are_read():
    small = Small.of("mean_pool")
    life = many(80)
    assert np.array_equal(small.logits([5], life), small.logits([5], life.select(slice(30, None))))
    assert not np.allclose(small.logits([5], life), small.logits([5], life.select(slice(31, None))), atol=1e-6)


def test_it_explains_nothing():
    small = Small.of("mean_pool")
    _, inputs = small.search([5], many(4))
    assert not small.model.explains
    assert small.forward(inputs).weight is None
