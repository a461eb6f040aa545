"""A TCP proxy in front of a store, that does to its connections what networks and servers do on bad days.

    with fault_proxy("redis://127.0.0.1:6379") as proxy:       proxy.url stands for it
        proxy.fault = Fault(delay_s=0.05, jitter_s=0.02)     from the next bytes on

Named after toxiproxy's toxics where they are the same. What is said by `reply` is said to each command, whatever it is.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import hiredis

CHUNK = 1 << 16
END_S = 5.0  # connections may take to close, at the end


@dataclass(frozen=True)
class Fault:
    """What happens to connections; the default is nothing."""

    delay_s: float = 0.0  # latency: before each piece of a reply
    jitter_s: float = 0.0  # at most so much more or less
    piece_bytes: int = 0  # slicer: replies come in pieces of so many bytes; 0 = as they are
    bytes_per_s: float = 0.0  # bandwidth of replies; 0 = all there is
    cut_after_bytes: int = -1  # limit_data: of a connection's replies, then it is closed in the middle; -1 = never
    silent: bool = False  # timeout, half-open: connections are taken, nothing ever comes
    reset: bool = False  # reset_peer: connections end with RST
    refuse: bool = False  # down: the port refuses connections, open ones end
    reply: bytes = b""  # an error in place of the store's replies, `-LOADING ...`


NO_FAULT = Fault()


class FaultProxy:
    """A running proxy."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self._target, self.port = urlsplit(url), 0
        self.connections = 0  # taken so far
        self.commands = 0  # that were seen
        self._fault, self._loop = NO_FAULT, loop
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def fault(self) -> Fault:
        """What is done now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        asyncio.run_coroutine_threadsafe(self._set(fault), self._loop).result(10)

    @property
    def open(self) -> int:
        """Connections that callers hold."""
        return len(self._open)

    @property
    def url(self) -> str:
        """Where it listens, in place of the store."""
        return f"redis://127.0.0.1:{self.port}"

    def lead_to(self, url: str) -> None:
        """Stand for another server, for connections from now on."""
        self._target = urlsplit(url)

    async def listen(self) -> None:
        """Take connections, on the same port each time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more, and end those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._end()

    async def end(self) -> None:
        """Close, and wait for what serves connections to have let go of them."""
        await self.close()
        if serving := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(serving, timeout=END_S)

    async def _set(self, fault: Fault) -> None:
        before, self._fault = self._fault, fault
        if fault.refuse:
            await self.close()
        elif self._server is None:
            await self.listen()
        if fault.reset and not before.reset:
            self._end()

    def _end(self) -> None:
        for writer in list(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._fault.reset:
            _reset(writer)
            return
        self._open.add(writer)
        try:
            store_reader, store_writer = await self._connect()
        except OSError:
            self._open.discard(writer)
            _reset(writer)
            return
        tasks = [
            asyncio.ensure_future(self._commands(reader, writer, store_writer)),
            asyncio.ensure_future(self._replies(store_reader, writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._open.discard(writer)
            for one in (writer, store_writer):
                with suppress(OSError, RuntimeError):
                    one.close()
                    await one.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(self._target.path, limit=CHUNK)
        return await asyncio.open_connection(self._target.hostname, self._target.port, limit=CHUNK)

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, store: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()  # commands are arrays as replies are
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                parser.feed(data)
                count = 0
                while parser.gets() is not False:
                    count += 1
                self.commands += count
                if self._fault.silent:
                    continue
                if self._fault.reply:
                    writer.write(self._fault.reply * count)
                    await writer.drain()
                    continue
                store.write(data)
                await store.drain()

    async def _replies(self, store: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while data := await store.read(CHUNK):
                size = self._fault.piece_bytes or len(data)
                for at in range(0, len(data), size):
                    fault, piece = self._fault, data[at : at + size]
                    if fault.silent:
                        continue
                    if 0 <= fault.cut_after_bytes < passed + len(piece):
                        writer.write(piece[: max(fault.cut_after_bytes - passed, 0)])
                        await writer.drain()
                        return
                    await asyncio.sleep(_pause_s(fault, len(piece)))
                    writer.write(piece)
                    await writer.drain()
                    passed += len(piece)


def _pause_s(fault: Fault, size: int) -> float:
    slow = size / fault.bytes_per_s if fault.bytes_per_s else 0.0
    return max(fault.delay_s + random.uniform(-fault.jitter_s, fault.jitter_s), 0.0) + slow


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    with suppress(OSError, RuntimeError):
        at_once = struct.pack("ii", 1, 0)  # linger for no time
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()


@contextmanager
def fault_proxy(url: str, fault: Fault = NO_FAULT) -> Iterator[FaultProxy]:
    """A proxy before a server, redis:// or unix://, in a thread of its own; with a fault from the start on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy", daemon=True)
    thread.start()
    proxy = FaultProxy(url, loop)
    try:
        asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(10)
        proxy.fault = fault
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
