"""Calls handed to threads: what they return and raise, their order, and what becomes of those that nobody waits for."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

from service.threads import Threads


@pytest.fixture
def one():
    threads = Threads(1, "one")
    yield threads
    threads.close()


def test_answers_and_errors_come_back_to_the_loop_that_waits(one):
    async def ask():
        assert await one.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await one.run(divmod, 7, 0)
        with pytest.raises(SystemExit):  # not the thread's end
            await one.run(exit)
        return await one.run(threading.current_thread)

    assert asyncio.run(ask()).name == "one_0"


def test_the_loop_goes_on_meanwhile_and_turns_are_kept(one):
    free, order = threading.Event(), []

    async def ask():
        waiting = [one.run(free.wait, 60), *(one.run(order.append, i) for i in range(5))]
        await asyncio.sleep(0.01)
        assert not any(call.done() for call in waiting)
        free.set()
        await asyncio.gather(*waiting)

    asyncio.run(ask())
    assert order == [0, 1, 2, 3, 4]


def test_as_many_as_there_are_threads_work_at_a_time():
    threads, meet = Threads(3, "three"), threading.Barrier(3, timeout=60)

    async def ask():
        return await asyncio.gather(*(threads.run(meet.wait) for _ in range(3)))

    assert sorted(asyncio.run(ask())) == [0, 1, 2]
    threads.close()


def test_a_call_given_up_before_its_turn_is_not_begun_and_one_at_work_ends_unheard(one):
    free, begun = threading.Event(), []

    def held():
        begun.append("first")
        assert free.wait(60)

    async def ask():
        first, second = one.run(held), one.run(begun.append, "second")
        while not begun:
            await asyncio.sleep(0.001)
        first.cancel()
        second.cancel()
        free.set()
        return await one.run(len, begun)

    assert asyncio.run(ask()) == 1


def test_a_loop_that_ended_meanwhile_is_no_error_of_the_thread(one):
    free = threading.Event()

    async def leave():
        one.run(free.wait, 60)

    asyncio.run(leave())
    free.set()

    async def ask():
        return await one.run(len, "abc")

    assert asyncio.run(ask()) == 3


def test_nothing_of_a_call_is_kept_until_the_next_one(one):
    class Body:
        pass

    async def ask():
        body = Body()
        seen = weakref.ref(body)
        await one.run(id, body)
        return seen

    seen = asyncio.run(ask())
    end = time.monotonic() + 60
    while seen() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    assert seen() is None


def test_closing_waits_for_what_was_handed_over():
    threads, done = Threads(2, "two"), []

    async def leave():
        for i in range(10):
            threads.run(lambda i=i: (time.sleep(0.002), done.append(i)))

    asyncio.run(leave())
    threads.close()
    assert len(done) == 10
