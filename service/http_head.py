"""HTTP/1.1 as uvicorn reads it, with limits for what comes before a body: so many bytes, and so long until they are whole."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.caller import IN_SCOPE, Caller

MAX_BYTES = 16_384  # of the path and all headers
MAX_S = 10.0  # from the first byte of a head to its last one
SILENT_S = 65.0  # that a new connection may say nothing


class HeadTooLarge(Exception):
    """The parser gives up a request when a callback raises."""


class LimitedHttp(HttpToolsProtocol):
    """Answers 431 and 408 by itself, as problem+json, and closes the connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._status, self._detail = HTTPStatus.BAD_REQUEST, "no HTTP request that can be read"
        self._is_open = False  # a head has begun, and is not whole
        self._shared = 0  # requests that the newest bytes may be of
        self._is_refused = False  # nothing more is read
        self._parsed_bytes = self._received_bytes = 0  # of the head: parsed; received, as far as they are surely its own
        self._timer: asyncio.TimerHandle | None = None
        self._caller = Caller()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller connects."""
        super().connection_made(transport)
        self._wait(SILENT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """A caller is gone."""
        self._caller.gone = True
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, a body or both."""
        if self._is_refused:
            return
        self._shared = int(self._is_open or (self.cycle is not None and self.cycle.more_body))
        super().data_received(data)
        if self._is_open and self._shared < 2:  # else a part of the bytes is of a request before it
            self._received_bytes += len(data)
            if self._received_bytes > MAX_BYTES:
                self._refuse_size()
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_open, self._shared = True, self._shared + 1
        self._parsed_bytes = self._received_bytes = 0
        self._wait(MAX_S)
        super().on_message_begin()
        self.scope[IN_SCOPE] = self._caller  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        """A piece of its path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._is_open = False
        self._wait(None)
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What could not be read is answered, after the requests before it."""
        self._is_open, self._is_refused = False, True
        self._wait(None)
        if not self._is_answering():
            self._write_refusal()

    def on_response_complete(self) -> None:
        """A request is answered."""
        super().on_response_complete()
        if self._is_refused and not self._is_answering():
            self._write_refusal()

    def _is_answering(self) -> bool:
        """Whether a request that is whole waits for its answer."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _write_refusal(self) -> None:
        if self.transport.is_closing():
            return
        content = {"type": "about:blank", "title": self._status.phrase.lower(), "status": self._status, "detail": self._detail}
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {self._status} {self._status.phrase}\r\ncontent-type: application/problem+json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > MAX_BYTES:
            self._refuse_size()
            raise HeadTooLarge

    def _refuse_size(self) -> None:
        self._status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._detail = f"head: more than {MAX_BYTES} bytes, limit {MAX_BYTES}"

    def _wait(self, seconds: float | None) -> None:
        """For what must come next; None: nothing must."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow, seconds)

    def _too_slow(self, seconds: float) -> None:
        if self._is_open:
            self._status, self._detail = HTTPStatus.REQUEST_TIMEOUT, f"head: not whole after {seconds:g} s"
            self.send_400_response("")
        else:
            self.transport.close()
