"""The open-loop generator against a server whose delays are known."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from loadtest.open_loop import SLOWER_THAN_ANY_LIMIT_MS, Job, offer, offer_apart
from tests.world import free_port

GOOD = b'{"scores":[0.5],"degraded":[],"behaviours":3}'
TIMING = b"queue;dur=0.100, total;dur=0.100"


def answer(body: bytes = GOOD, status: int = 200) -> bytes:
    head = b"HTTP/1.1 %d x\r\nServer-Timing: %s\r\nContent-Length: %d\r\n\r\n" % (status, TIMING, len(body))
    return head + body


@contextmanager
def server(reply: Callable[[int, bytes], tuple[float, bytes]]) -> Iterator[int]:
    """`reply(number, body)` gives seconds to wait and the bytes to send, b"" = hang up; numbers are in order of arrival."""
    port, numbers, started = free_port(), itertools.count(), threading.Event()
    stop: list[Callable[[], object]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                wait, content = reply(next(numbers), await reader.readexactly(length))
                await asyncio.sleep(wait)
                if not content:
                    return
                for part in (content[:60], content[60:]):  # an answer may come in pieces
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the generator hung up
        finally:
            writer.transport.abort()

    async def run() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        listening = await asyncio.start_server(talk, "127.0.0.1", port)
        started.set()
        await over.wait()
        listening.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert started.wait(10)
    try:
        yield port
    finally:
        stop[0]()
        thread.join()


def test_a_known_delay_is_the_latency():
    with server(lambda number, body: (0.05, answer())) as port:
        outcome = offer(Job(port, [b"{}"], per_s=100, count=60))
    assert not outcome.wrong.any()
    assert (outcome.answer_ms >= 50).all()
    assert 50 <= np.median(outcome.latency_ms) < 65
    assert set(outcome.timing) == {TIMING.decode()}


def test_requests_are_sent_at_the_rate_whatever_the_answers_do():
    """100 a second for 0.6 s to a server that takes 0.3 s: thirty are under way at once."""
    arrived = []
    with server(lambda number, body: (arrived.append(time.perf_counter()) or 0.3, answer())) as port:
        offer(Job(port, [b"{}"], per_s=100, count=60))
    assert len(arrived) == 60
    assert 0.5 < arrived[-1] - arrived[0] < 0.75
    assert np.median(np.diff(arrived)) == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize("connections", [4, 128], ids=["too few connections", "enough"])
def test_a_stall_shows_in_every_request_that_was_due_meanwhile(connections):
    """The server sleeps half a second at the 30th of 100 requests, 10 ms apart: the k-th after it waits 500 - 10 k ms."""
    stall_s = 0.5

    def reply(number: int, body: bytes) -> tuple[float, bytes]:
        if number == 30:
            time.sleep(stall_s)  # the whole server
        return 0, answer()

    with server(reply) as port:
        outcome = offer(Job(port, [b"{}"], per_s=100, count=100, connections=connections))
    assert not outcome.wrong.any()
    after = np.arange(30, 75)
    assert (outcome.latency_ms[after] > stall_s * 1000 - (after - 30) * 10 - 5).all()
    assert np.percentile(outcome.latency_ms, 70) > 100  # a closed loop would have seen one slow request in a hundred
    assert np.median(outcome.latency_ms[:25]) < 20


def test_what_is_no_good_answer_counts_as_slower_than_any_limit():
    replies = [answer(), answer(b"{}", 503), answer(b'{"scores":[0.5],"degraded":["store_down"]}'), b"", answer()]
    with server(lambda number, body: (0, replies[number])) as port:
        outcome = offer(Job(port, [b"{}"], per_s=50, count=5))
    assert outcome.status.tolist() == [200, 503, 200, 0, 200]
    assert outcome.wrong.tolist() == [False, True, True, True, False]
    assert (outcome.latency_ms[[1, 2, 3]] == SLOWER_THAN_ANY_LIMIT_MS).all()
    assert (outcome.latency_ms[[0, 4]] < 1000).all()


def test_an_answer_in_chunks_ends_with_the_last_of_them():
    chunks = b"%x\r\n%s\r\n" % (len(GOOD), GOOD) + b"0\r\n\r\n"
    head = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server(lambda number, body: (0.01, head + chunks)) as port:
        outcome = offer(Job(port, [b"{}"], per_s=50, count=5))
    assert not outcome.wrong.any()
    assert (outcome.answer_ms >= 10).all()


def test_an_answer_without_a_length_is_none():
    replies = [b"HTTP/1.1 200 x\r\n\r\n" + GOOD, answer()]
    with server(lambda number, body: (0, replies[number])) as port:
        outcome = offer(Job(port, [b"{}"], per_s=50, count=2, connections=1))
    assert outcome.wrong.tolist() == [True, False]


def test_what_a_whole_answer_has_in_it_can_be_said():
    with server(lambda number, body: (0, answer(b'{"scores":[1]}'))) as port:
        assert offer(Job(port, [b"{}"], per_s=50, count=2)).degraded.all()
        assert not offer(Job(port, [b"{}"], per_s=50, count=2, whole=b'"scores"')).wrong.any()


def test_bodies_are_sent_in_turn():
    seen = []
    with server(lambda number, body: (seen.append(body) or 0, answer())) as port:
        offer(Job(port, [b"a", b"bb", b"ccc"], per_s=200, count=7))
    assert seen == [b"a", b"bb", b"ccc", b"a", b"bb", b"ccc", b"a"]


def test_the_generator_in_a_process_of_its_own_says_what_it_used_and_how_late_it_was():
    with server(lambda number, body: (0, answer())) as port:
        outcome = offer_apart(Job(port, [b"x" * 6000], per_s=100, count=100))
    assert not outcome.wrong.any()
    assert 0 < outcome.cpu_s < 0.5
    assert (outcome.late_ms >= 0).all()
    assert (outcome.answer_ms > outcome.late_ms).all()


def test_nobody_there_is_an_error():
    with pytest.raises(OSError):
        offer(Job(free_port(), [b"{}"], per_s=100, count=1))
