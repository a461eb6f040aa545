"""Connections to the store: one place for URLs, time limits and retries.

redis://  rediss://  unix://                      one server: plain, with TLS, by a socket file
redis+cluster://  rediss+cluster://host:port,...  a cluster: any of its nodes, the others are found
"""

from typing import Any, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy
from redis.connection import parse_url
from redis.retry import Retry

from store.cluster import LazyCluster

OFFLINE_TIMEOUT_S = 30.0
DEFAULT_PORT = 6379
CLUSTER = "+cluster"
TLS = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
    "ssl_check_hostname",
)  # fmt: skip
PARAMETERS = {  # what may stand in the query; not the time limits, which are settings
    "redis": ("db", "client_name", "protocol"),
    "rediss": ("db", "client_name", "protocol", *TLS),
    "unix": ("db", "client_name", "protocol", "password"),
    "redis+cluster": ("client_name", "protocol", "read_from_replicas"),
    "rediss+cluster": ("client_name", "protocol", "read_from_replicas", *TLS),
}


def connect(url: str, timeout_s: float = OFFLINE_TIMEOUT_S, connect_timeout_s: float | None = None) -> Redis:
    """A blocking client: replies are bytes, every call is bounded by `timeout_s`, nothing is retried.

    The client library's own defaults (10 retries, 5 s) would hold a request for half a minute.
    Connections open on first use. One client serves many threads; each takes a connection.
    A cluster's client has the same calls; there `timeout_s` bounds each exchange with a node (`cluster.py` says how many).

    Raises:
        ValueError: no URL of a store; the text says why, without the password.
    """
    parts = check_url(url)
    limits = {"socket_timeout": timeout_s, "socket_connect_timeout": connect_timeout_s or timeout_s}
    if parts.scheme.endswith(CLUSTER):
        return cast(Redis, LazyCluster(_nodes(parts), timeout_s, **limits, **_arguments(parts)))
    client: Redis = Redis.from_url(url, **limits, retry=Retry(NoBackoff(), 0), decode_responses=False)
    return client


def servers(redis: Redis) -> list[Redis]:
    """A client of each server that holds data: the client itself, or one for every primary of a cluster."""
    if not isinstance(redis, LazyCluster):
        return [redis]
    return [redis.get_redis_connection(node) for node in redis.get_primaries()]


def check_url(url: str) -> SplitResult:
    """The parts of a URL that a client can be made of.

    Raises:
        ValueError: it is none; the text does not hold the password.
    """
    scheme = url.partition("://")[0]
    if scheme not in PARAMETERS or "://" not in url:
        raise ValueError(f"a store's URL starts with {', '.join(f'{name}://' for name in PARAMETERS)}")
    parts = urlsplit(url)
    if unknown := sorted(set(parse_qs(parts.query, keep_blank_values=True)) - set(PARAMETERS[scheme])):
        raise ValueError(f"{scheme}:// has no parameter {', '.join(unknown)}; known are {', '.join(PARAMETERS[scheme])}")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("unix:// needs the path of a socket file")
        return parts
    _nodes(parts)
    number = parts.path.strip("/")
    if number and not (number.isdecimal() and (number == "0" or not scheme.endswith(CLUSTER))):
        raise ValueError(f"{scheme}://: {number!r} behind the address: a database's number, on a cluster nothing")
    _arguments(parts)
    return parts


def _nodes(parts: SplitResult) -> list[tuple[str, int]]:
    """Hosts and ports; of one server a single pair."""
    address = parts.netloc.rpartition("@")[2]
    hosts = address.split(",") if parts.scheme.endswith(CLUSTER) else [address]
    nodes = []
    for host in hosts:
        one = urlsplit(f"//{host}")
        try:
            port = one.port or DEFAULT_PORT
        except ValueError:
            raise ValueError(f"{parts.scheme}://: no port in {host!r}") from None
        if not one.hostname:
            raise ValueError(f"{parts.scheme}://: no host in {host!r}")
        nodes.append((one.hostname, port))
    return nodes


def _arguments(parts: SplitResult) -> dict[str, Any]:
    """User, password and query as arguments of the library's cluster client."""
    user, at, address = parts.netloc.rpartition("@")
    first = f"{user}{at}{address.split(',')[0]}"
    arguments: dict[str, Any] = parse_url(parts._replace(scheme=parts.scheme.removesuffix(CLUSTER), netloc=first).geturl())
    for name in ("host", "port", "db"):
        arguments.pop(name, None)
    if arguments.pop("connection_class", None):
        arguments["ssl"] = True
    replicas = arguments.pop("read_from_replicas", "false").lower()
    if replicas not in ("true", "false"):
        raise ValueError(f"read_from_replicas: {replicas!r}, true or false is needed")
    return arguments | ({"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN} if replicas == "true" else {})


def text(reply: bytes | str) -> str:
    """A reply as text; bytes that are no UTF-8 become signs that equal nothing of ours.

    The client library's types leave open which of the two a reply is.
    """
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
