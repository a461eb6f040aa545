"""What makes MIND MIND."""

import math

import numpy as np
import pytest
import torch

from export.models import build
from export.models.mind import route, signed_power, squash
from tests.export.models.synthetic import SHAPE, Small, behaviours, many, whole

BEHAVIOUR = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])
ACTIVE = torch.tensor([[True] * 4, [True, True, False, False]])


def test_every_behaviour_is_shared_out_among_the_interests():
    """Softmax over the interests, not over the behaviours."""
    weight = route(BEHAVIOUR, MASK, LOGITS, ACTIVE, 3)
    assert torch.allclose(weight.sum(dim=2), MASK.float())
    assert not weight[1, :, 2:].any(), "interests that the user has not"
    assert not weight[1, 3:].any(), "padding"


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_routing_follows_algorithm_1(iterations):
    b = LOGITS.T.numpy().astype(np.float64)  # [I, K]
    e = BEHAVIOUR[0].numpy().astype(np.float64)
    for step in range(iterations):
        w = np.exp(b) / np.exp(b).sum(axis=0)
        z = w @ e
        length = np.linalg.norm(z, axis=1, keepdims=True)
        u = length**2 / (1 + length**2) * z / length
        if step < iterations - 1:
            b = b + u @ e.T
    weight = route(BEHAVIOUR, MASK, LOGITS, ACTIVE, iterations)
    assert np.allclose(weight[0].T, w, atol=1e-6)
    assert np.allclose(squash(weight.transpose(1, 2) @ BEHAVIOUR)[0], u, atol=1e-6)


def test_squash_of_nothing_is_nothing_and_has_a_gradient():
    z = torch.zeros(2, 3, requires_grad=True)
    squash(z).sum().backward()
    assert not squash(z).any()
    assert z.grad.isfinite().all()


def test_gradients_go_through_the_last_sum_only():
    small = Small.of("mind")
    assert not route(BEHAVIOUR.clone().requires_grad_(), MASK, LOGITS, ACTIVE, 3).requires_grad
    _, inputs = small.search([5, 8], many(20))
    small.forward(inputs, training=True).logit.sum().backward()
    assert small.model.bilinear.grad.any(), "S learns from it"


def test_routing_starts_from_a_fixed_seed_that_is_saved():
    model = Small.of("mind").model
    assert model.state_dict()["routing"].shape == (4, 50)
    assert "routing" not in dict(model.named_parameters())
    assert torch.equal(model.routing, Small.of("mind", seed=9).model.routing), "it comes from the model's own seed"
    assert not torch.equal(model.routing, build("mind", SHAPE, seed=1).routing)
    assert abs(float(model.routing.mean())) < 0.2
    assert abs(float(model.routing.std()) - 1) < 0.2


def test_interests_that_start_equal_would_stay_equal():
    """Why b is drawn and not zero."""
    weight = route(BEHAVIOUR, MASK, torch.zeros(5, 4), ACTIVE, 3)
    assert torch.allclose(weight[0], torch.full((5, 4), 0.25))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 50])
def test_a_user_of_n_behaviours_has_log2_n_interests(count):
    active = Small.of("mind").model.active(torch.arange(50)[None] < count)
    expected = max(1, min(4, int(math.log2(count)))) if count else 1
    assert active.tolist() == [[i < expected for i in range(4)]]


def test_powers_keep_the_sign_and_are_numbers():
    x = torch.tensor([-3.0, 0.0, 2.0], requires_grad=True)
    assert signed_power(x, 2).tolist() == [-9.0, 0.0, 4.0]
    half = signed_power(x, 1.5)
    half.sum().backward()
    assert half.isfinite().all()
    assert x.grad.isfinite().all()
    assert half[0] < half[1] < half[2]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_candidate_is_the_label_that_attends_to_the_interests(power):
    small = Small.of("mind", power=power)
    model, seen = small.model, {}
    model.layers.register_forward_hook(lambda *call: seen.update(capsule=call[1][0][0], through=call[2][0]))
    _, inputs = small.search([5, 8], many(9))  # three interests
    batch = {name: torch.from_numpy(inputs[name]) for name in model.input_names}
    found = model.interest(small.vectors[[5, 8]][None, None], model.user(small.vectors, batch))
    interests = (seen["capsule"] + seen["through"])[:3]
    for s, row in enumerate([5, 8]):
        near = interests @ small.vectors[row]
        weight = torch.softmax(torch.sign(near) * near.abs() ** power, dim=0)
        assert torch.allclose(whole(found)[0, 0, s], weight @ interests, atol=1e-5)


def test_with_one_interest_the_head_meets_the_mean_of_the_behaviours():
    small = Small.of("mind")
    model = small.model
    _, inputs = small.search([5], behaviours([7, 9, 9]))  # log2 3: one
    batch = {name: torch.from_numpy(inputs[name]) for name in model.input_names}
    found = model.interest(small.vectors[[5]][None, None], model.user(small.vectors, batch))
    assert torch.allclose(found.like_target[0, 0, 0], small.vectors[[7, 9, 9]].mean(dim=0), atol=1e-6)


def test_training_and_serving_compute_the_same():
    small = Small.of("mind")
    _, inputs = small.search([5, 8], many(30))
    served = small.forward(inputs).logit
    small.model.train()
    assert torch.equal(small.forward(inputs).logit, served)
    assert torch.equal(small.forward(inputs).logit, served), "nothing is drawn on the way"


def test_interests_are_worked_out_once_a_request_whatever_the_candidates():
    small = Small.of("mind")
    shapes = []
    small.model.layers.register_forward_hook(lambda _, given, out: shapes.append(tuple(out.shape)))
    small.logits(list(range(2, 20)), many(30))
    assert shapes == [(1, 4, 16)]


def test_what_stands_at_padding_does_not_matter():
    small = Small.of("mind")
    _, inputs = small.search([5, 8], many(6))
    filled = inputs | {"retrieved_row": np.where(inputs["retrieved_mask"], inputs["retrieved_row"], 9).astype(np.int32)}
    assert torch.equal(small.forward(inputs).logit, small.forward(filled).logit)
