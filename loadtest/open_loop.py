"""The open-loop generator: requests at fixed times, whatever the answers do; latency counts from the intended sending.

A process of its own with two threads, both asleep most of the time: one sends what is due, by the system's clock and not an event
loop's timer of whole milliseconds; the other waits for answers. A request that finds no free connection waits for one, and its
clock runs meanwhile: a server that stalls shows in every request that was due (no coordinated omission).
"""

import ctypes
import gc
import pickle
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

CONNECTIONS = 128  # more than a scorer has slots: it refuses what is too much, not the generator
START_S = 0.05  # from connecting to the first request
DRAIN_S = 5.0  # for answers after the last request was due
SLOWER_THAN_ANY_LIMIT_MS = 60_000.0  # what counts for an answer that is none
PR_SET_TIMERSLACK = 29  # of Linux: sleeps of this thread end to the nanosecond, not when 50 us of them may be put together
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED, LAST_CHUNK = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE), b"\r\n0\r\n\r\n"
TIMING = re.compile(rb"\r\nserver-timing: *([^\r]*)", re.IGNORECASE)
NOT_DEGRADED = b'"degraded":[]'


@dataclass(frozen=True)
class Job:
    """What to send: `count` requests, `per_s` a second, the bodies in turn."""

    port: int
    bodies: Sequence[bytes]
    per_s: float
    count: int
    host: str = "127.0.0.1"
    path: str = "/score"
    connections: int = CONNECTIONS
    whole: bytes = NOT_DEGRADED  # what an answer has in it that is not degraded


@dataclass(frozen=True)
class Outcome:
    """What became of each request, [count] in order of sending."""

    answer_ms: NDArray[np.float64]  # from the intended sending to the whole answer, whatever it was; NaN = none came
    late_ms: NDArray[np.float64]  # from the intended sending to the real one; NaN = never sent
    status: NDArray[np.int64]  # 0 = none
    degraded: NDArray[np.bool_]
    timing: list[str]  # the Server-Timing header, "" = none
    cpu_s: float  # of the generator

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which requests were not answered as they should: refused, late beyond all limits, degraded."""
        return np.not_equal(self.status, 200) | self.degraded

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """Latency of each request; a wrong answer counts as slower than any limit."""
        return np.where(self.wrong, SLOWER_THAN_ANY_LIMIT_MS, self.answer_ms)


class _Connection:
    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.request = -1  # the one it waits for


class _Exchange:
    """One job's connections and notes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        head = f"POST {job.path} HTTP/1.1\r\nhost: {job.host}:{job.port}\r\ncontent-type: application/json\r\ncontent-length: "
        self.requests = [b"%s%d\r\n\r\n%s" % (head.encode(), len(body), body) for body in job.bodies]
        self.due, self.sent, self.answered = (np.full(job.count, np.nan) for _ in range(3))
        self.status, self.degraded = np.zeros(job.count, np.int64), np.zeros(job.count, np.bool_)
        self.timing = [b""] * job.count
        self.free: SimpleQueue[_Connection] = SimpleQueue()
        self.epoll, self.by_file = select.epoll(), dict[int, _Connection]()
        self.left, self.over = job.count, threading.Event()
        for _ in range(min(job.connections, job.count)):
            self._open()

    def send_all(self) -> None:
        """Send each request when it is due, or as soon as a connection is free after that."""
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        job, start = self.job, time.perf_counter() + START_S
        self.due[:] = start + np.arange(job.count) / job.per_s
        end = start + job.count / job.per_s + DRAIN_S
        for i, due in enumerate(self.due.tolist()):
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            try:
                connection = self.free.get(timeout=max(end - time.perf_counter(), 0))
            except Empty:
                break
            connection.request = i
            self.sent[i] = time.perf_counter()
            try:
                connection.socket.sendall(self.requests[i % len(self.requests)])
            except OSError:  # the reader sees the end of it, and counts the request
                continue
        self.over.wait(max(end - time.perf_counter(), 0))
        self.over.set()

    def receive_all(self) -> None:
        """Note answers until all are there, or the time is up."""
        while self.left and not self.over.is_set():
            for file, _ in self.epoll.poll(0.2):
                self._receive(self.by_file[file])
        self.over.set()

    def _receive(self, connection: _Connection) -> None:
        try:
            part = connection.socket.recv(1 << 18)
        except OSError:
            part = b""
        now = time.perf_counter()
        if not part:
            self._replace(connection)
            return
        buffer = connection.buffer
        buffer += part
        end = buffer.find(b"\r\n\r\n")
        length = LENGTH.search(buffer, 0, end + 2) if end >= 0 else None
        in_chunks = end >= 0 and length is None
        if in_chunks and not CHUNKED.search(buffer, 0, end + 2):  # then it ends where the connection does: none here
            self._replace(connection)
        elif buffer.endswith(LAST_CHUNK) if in_chunks else length is not None and len(buffer) >= end + 4 + int(length[1]):
            i = connection.request
            self.answered[i], self.status[i] = now, int(buffer[9:12])
            self.degraded[i] = self.status[i] == 200 and buffer.find(self.job.whole, end) < 0
            timing = TIMING.search(buffer, 0, end + 2)
            self.timing[i] = timing[1] if timing else b""
            buffer.clear()
            self._finish(connection)

    def _finish(self, connection: _Connection) -> None:
        connection.request = -1
        self.left -= 1
        self.free.put(connection)

    def _replace(self, broken: _Connection) -> None:
        """A new connection for one that ended; the request it carried stays unanswered."""
        self.epoll.unregister(broken.socket)
        del self.by_file[broken.socket.fileno()]
        broken.socket.close()
        self.left -= broken.request >= 0
        try:
            self._open()
        except OSError:  # the server is gone: the others will find out
            return

    def _open(self) -> None:
        connection = _Connection((self.job.host, self.job.port))
        self.by_file[connection.socket.fileno()] = connection
        self.epoll.register(connection.socket, select.EPOLLIN)
        self.free.put(connection)

    def close(self) -> None:
        self.epoll.close()
        for connection in self.by_file.values():
            connection.socket.close()


def offer(job: Job) -> Outcome:
    """Send a job's requests from this process.

    Raises:
        OSError: nobody listens there.
    """
    exchange = _Exchange(job)
    gc.disable()
    try:
        cpu = time.process_time()
        reader = threading.Thread(target=exchange.receive_all)
        reader.start()
        exchange.send_all()
        reader.join()
        cpu = time.process_time() - cpu
    finally:
        gc.enable()
        exchange.close()
    return Outcome(
        (exchange.answered - exchange.due) * 1000, (exchange.sent - exchange.due) * 1000, exchange.status, exchange.degraded,
        [text.decode("latin-1") for text in exchange.timing], cpu,
    )  # fmt: skip


def offer_apart(job: Job) -> Outcome:
    """Send a job's requests from a process of its own. Cost: 0.2 s beside the job.

    Raises:
        subprocess.CalledProcessError: the generator failed; its traceback is on stderr.
    """
    command = [sys.executable, "-c", "from loadtest.open_loop import _main; _main()"]
    done = subprocess.run(command, input=pickle.dumps(job), stdout=subprocess.PIPE, check=True)
    outcome: Outcome = pickle.loads(done.stdout)
    return outcome


def _main() -> None:
    sys.stdout.buffer.write(pickle.dumps(offer(pickle.load(sys.stdin.buffer))))
