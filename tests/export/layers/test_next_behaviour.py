"""The auxiliary loss of DIEN."""

import math

import pytest
import torch

from export.layers.next_behaviour import next_behaviour_loss

STATE = torch.tensor([[[[1.0], [2.0], [5.0]]]])  # U = G = D = 1, K = 3
ITEM = torch.tensor([[[[7.0], [0.5], [-1.0]]]])
NEGATIVE = torch.tensor([[[[9.0], [0.25], [0.0]]]])


def minus_log_sigmoid(x):
    return math.log(1 + math.exp(-x))


def test_a_state_is_held_against_the_next_behaviour_and_its_negative():
    """Pairs (1, 0.5 | 0.25) and (2, -1 | 0); the last state and the first behaviour have no partner."""
    first = minus_log_sigmoid(0.5) + minus_log_sigmoid(-0.25)
    second = minus_log_sigmoid(-2.0) + minus_log_sigmoid(0.0)
    loss = next_behaviour_loss(STATE, ITEM, NEGATIVE, torch.ones(1, 1, 3, dtype=torch.bool))
    assert float(loss) == pytest.approx((first + second) / 2)


def test_padding_takes_no_part():
    loss = next_behaviour_loss(STATE, ITEM, NEGATIVE, torch.tensor([[[True, True, False]]]))
    assert float(loss) == pytest.approx(minus_log_sigmoid(0.5) + minus_log_sigmoid(-0.25))


def test_every_pair_weighs_the_same_whoever_it_is_of():
    both = [torch.cat([part, part]) for part in (STATE, ITEM, NEGATIVE)]
    loss = next_behaviour_loss(*both, torch.tensor([[[True, True, True]], [[True, True, False]]]))
    first = minus_log_sigmoid(0.5) + minus_log_sigmoid(-0.25)
    second = minus_log_sigmoid(-2.0) + minus_log_sigmoid(0.0)
    assert float(loss) == pytest.approx((2 * first + second) / 3)


@pytest.mark.parametrize("mask", [[False] * 3, [True, False, False]])
def test_without_a_pair_it_is_zero(mask):
    assert float(next_behaviour_loss(STATE, ITEM, NEGATIVE, torch.tensor([[mask]]))) == 0
