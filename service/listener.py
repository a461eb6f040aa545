"""The end of listening without a reset: what nobody will answer any more is not let in.

A listener that is closed resets the connections that the kernel has taken and the server has not, with the requests on them.
So its packets are dropped first, then the server takes what is there, then it closes. Who connects meanwhile waits a moment,
and is refused.
"""

import ctypes
import logging
import socket
import struct
import sys

from service.http_head import LimitedHttp

log = logging.getLogger("longtrail")

SO_ATTACH_FILTER = 26  # of Linux; the module has no name for it
RETURN = 0x06  # BPF: keep so many bytes of a packet
TAKEN_S = 0.1  # the server has taken what was let in
LINGER_S = 0.3  # what was sent before the listener closed is there by then


def let_nobody_in(listener: socket.socket) -> None:
    """Drop what arrives at a listener from now on; connections that it has let in are not touched.

    Linux alone: elsewhere nothing happens, and a connection made in the listener's last moment may be reset.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0))  # keep 0 bytes
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
    except OSError as error:
        log.warning("connections of the last moment may be reset: %s", error)


class Lingering(LimitedHttp):
    """Connections that stay a moment longer than the listener: none is hung up under a request that is on its way."""

    def shutdown(self) -> None:
        """What the server says to each connection at the end."""
        self.loop.call_later(LINGER_S, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
