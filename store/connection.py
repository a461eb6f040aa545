"""Connections to the store: one place for time limits and retries."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

OFFLINE_TIMEOUT_S = 30.0


def connect(url: str, timeout_s: float = OFFLINE_TIMEOUT_S, connect_timeout_s: float | None = None) -> Redis:
    """A blocking client: replies are bytes, every call is bounded by `timeout_s`, nothing is retried.

    The client library's own defaults (10 retries, 5 s) would hold a request for half a minute.
    Connections open on first use. One client serves many threads; each takes a connection.
    """
    client: Redis = Redis.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=connect_timeout_s or timeout_s,
        retry=Retry(NoBackoff(), 0), decode_responses=False,
    )  # fmt: skip
    return client


def text(reply: bytes | str) -> str:
    """A reply as text; bytes that are no UTF-8 become signs that equal nothing of ours.

    The client library's types leave open which of the two a reply is.
    """
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
