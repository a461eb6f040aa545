"""The order of training's batches."""

from itertools import islice

import numpy as np
import pytest

from export.order import Order

AT = np.random.default_rng(0).permutation(100).astype(np.int64)  # the time of request r; 80.. are the last week


def batches(order: Order) -> list[list[int]]:
    return list(order)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 7, 200])
def test_each_epoch_has_every_request_once_in_one_process(batch, processes):
    seen = []
    for process in range(processes):
        order = Order(AT, 80, batch, epochs=2, seed=0, processes=processes)
        order.process = process
        seen.append(batches(order))
        assert len(seen[-1]) == len(order)
        assert all(seen[-1])  # none is empty
    for epoch in range(2):
        part = slice(epoch * order.steps_an_epoch, (epoch + 1) * order.steps_an_epoch)
        assert sorted(r for process in seen for one in process[part] for r in one) == list(range(100))


def test_batches_are_as_large_as_asked_for():
    assert {len(one) for one in Order(AT, 80, 16, epochs=1, seed=0)} == {16, 10}  # 80 = 5 x 16, 20 = 2 x 10


def test_the_last_week_comes_last_and_is_shuffled_as_all_else():
    order = Order(AT, 80, 8, epochs=1, seed=0)
    older, newer = np.concatenate(batches(order)[:10]), np.concatenate(batches_from(order, 10))
    assert AT[older].max() < 80 <= AT[newer].min()
    assert sorted(newer) != newer.tolist()
    assert sorted(older) != older.tolist()


def batches_from(order: Order, done: int) -> list[list[int]]:
    order.load_state_dict({"done": done})
    return batches(order)


def test_the_step_before_the_last_week_is_that_of_the_last_epoch():
    order = Order(AT, 80, 8, epochs=3, seed=0)
    assert (order.steps_an_epoch, order.week_old) == (13, 36)  # 10 + 3 a time
    assert [step for step in range(len(order)) if order.begins_block(step)] == [0, 10, 13, 23, 26, 36]


@pytest.mark.parametrize("last_week", [0, 1000])
def test_requests_of_one_block_have_no_week_before_the_last(last_week):
    order = Order(AT, last_week, 8, epochs=2, seed=0)
    assert order.week_old is None
    assert [step for step in range(len(order)) if order.begins_block(step)] == [0, 13]


def test_epochs_and_seeds_differ_and_the_same_seed_does_not():
    first = batches(Order(AT, 80, 8, epochs=2, seed=0))
    assert first[:13] != first[13:]
    assert first != batches(Order(AT, 80, 8, epochs=2, seed=1))
    assert first == batches(Order(AT, 80, 8, epochs=2, seed=0))


@pytest.mark.parametrize("done", [0, 5, 13, 25, 26])
def test_an_order_goes_on_from_its_state(done):
    whole, first, rest = (Order(AT, 80, 8, epochs=2, seed=0) for _ in range(3))
    assert len(list(islice(first, done))) == done
    assert batches_from(rest, first.state_dict()["done"]) == batches(whole)[done:]
