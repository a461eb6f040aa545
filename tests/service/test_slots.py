"""How many calls may work and wait."""

import pytest

from service.errors import Overloaded
from service.slots import Queue, Slots


def taken(slots, count):
    """So many slots held at once, as context managers that were entered."""
    held = []
    for _ in range(count):
        slot = slots.take()
        slot.__enter__()
        held.append(slot)
    return held


def test_one_more_than_the_limit_is_refused_and_a_free_slot_is_free():
    slots = Slots(2)
    held = taken(slots, 2)
    with pytest.raises(Overloaded, match="in flight: 2, limit 2"), slots.take():
        pass
    held.pop().__exit__(None, None, None)
    with slots.take():
        assert slots.taken == 2
    assert slots.taken == 1


def test_a_call_that_fails_gives_its_slot_back():
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.take():
        raise ZeroDivisionError
    assert slots.taken == 0


def test_nobody_is_refused_before_anything_is_known_of_how_long_calls_take():
    assert len(taken(Slots(64, queue=Queue(2, 0.05)), 64)) == 64


def test_as_many_wait_as_have_their_turn_in_time():
    """Calls of 10 ms in two threads, 50 ms to wait: ten are waited for at most, and two work."""
    queue = Queue(2, 0.05)
    for _ in range(200):
        queue.took(0.01)
    slots = Slots(64, queue=queue)
    taken(slots, 11)
    with pytest.raises(Overloaded, match="queue: a wait of about 55 ms, limit 50 ms"):
        taken(slots, 2)


def test_calls_that_take_longer_than_any_wait_still_find_free_threads():
    queue = Queue(2, 0.05)
    for _ in range(200):
        queue.took(3.0)
    slots = Slots(64, queue=queue)
    taken(slots, 2)
    with pytest.raises(Overloaded):
        taken(slots, 1)


def test_the_mean_follows_what_calls_take_now():
    queue = Queue(1, 0.05)
    for _ in range(200):
        queue.took(1.0)
    with pytest.raises(Overloaded):
        queue.check(1)
    for _ in range(60):
        queue.took(0.001)
    queue.check(1)
