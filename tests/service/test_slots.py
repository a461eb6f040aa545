"""How many calls may work and wait."""

from contextlib import ExitStack, contextmanager

import pytest

from service.errors import Overloaded
from service.slots import Queue, Slots


@contextmanager
def taken(slots, count):
    """So many slots held at once."""
    with ExitStack() as held:
        for _ in range(count):
            held.enter_context(slots.take())
        yield held


def test_one_more_than_the_limit_is_refused_and_a_free_slot_is_free():
    slots = Slots(2)
    with taken(slots, 1):
        with slots.take(), pytest.raises(Overloaded, match="in flight: 2, limit 2"), slots.take():
            pass
        with slots.take():
            assert slots.taken == 2
    assert slots.taken == 0


def test_a_call_that_fails_gives_its_slot_back():
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.take():
        raise ZeroDivisionError
    assert slots.taken == 0


def handed(queue, count):
    """So many calls with the threads at once."""
    held = ExitStack()
    for _ in range(count):
        held.enter_context(queue.handed())
    return held


def test_nobody_is_refused_before_anything_is_known_of_how_long_calls_take():
    with handed(Queue(2, 0.05), 64):
        pass


def test_as_many_wait_as_have_their_turn_in_time():
    """Calls of 10 ms in two threads, 50 ms to wait: ten are waited for at most, and two work."""
    queue = Queue(2, 0.05)
    for _ in range(200):
        queue.took(0.01)
    with (
        handed(queue, 12),
        pytest.raises(Overloaded, match="queue: a wait of about 55 ms, limit 50 ms"), queue.handed(),
    ):  # fmt: skip
        pass
    with handed(queue, 12):
        pass


def test_the_first_call_says_how_long_the_next_ones_wait():
    """Beside a zero that nobody measured it would count a tenth, and a burst at the start would wait ten times too long."""
    queue = Queue(1, 0.05)
    queue.took(0.03)
    queue.took(0.01)
    with handed(queue, 3), pytest.raises(Overloaded, match="about 60 ms, limit 50 ms"), queue.handed():
        pass


def test_nobody_queues_behind_a_thread_that_is_held_up(monkeypatch):
    """Calls take 1 ms, but one of two threads' has not come back: who waits for more than twice the limit says so."""
    now = 100.0
    monkeypatch.setattr("service.slots.perf_counter", lambda: now)
    queue = Queue(2, 0.05)
    queue.took(0.001)
    with handed(queue, 2):
        now += 10  # both work, nobody waits
        with queue.handed():
            now += 0.099
            with queue.handed():
                now += 0.021
                with pytest.raises(Overloaded, match="about 60 ms, limit 50 ms"), queue.handed():
                    pass
        with queue.handed():
            pass


def test_calls_that_take_longer_than_any_wait_still_find_free_threads():
    queue = Queue(2, 0.05)
    for _ in range(200):
        queue.took(3.0)
    with handed(queue, 2), pytest.raises(Overloaded), queue.handed():
        pass


def test_the_mean_follows_what_calls_take_now():
    queue = Queue(1, 0.05)
    for _ in range(200):
        queue.took(1.0)
    with handed(queue, 1):
        with pytest.raises(Overloaded), queue.handed():
            pass
        for _ in range(60):
            queue.took(0.001)
        with queue.handed():
            pass
