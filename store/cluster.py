"""A client of Redis Cluster that keeps the promises of `connection.py`: nothing hidden, every call bounded in time.

The library's own client waits a quarter of a second when the cluster says that it is down, asks every node for the slots
after each late reply, and sends a pipeline's commands again one by one. Here a call goes to one node, follows the cluster
where it points (MOVED, ASK), and repeats TRYAGAIN, a slot between two nodes, within its own time limit. A node that does
not answer is asked four times a second, as long as it does not; what the others hold is served meanwhile. All errors are
RedisErrors, which the library's are not.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.connection import Connection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    ConnectionError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from store.breaker import PAUSE_S, Breaker
from store.scripts import raise_first

REDIRECTIONS = 5  # of one call; more say that the nodes do not agree
TRY_AGAIN_S = 0.01  # between two tries while a slot's keys are split between two nodes
Commands = list[tuple[tuple[Any, ...], dict[str, Any]]]  # arguments, and options for the reply's reading
ANSWERED = (AuthenticationError, AuthorizationError, BusyLoadingError)  # connection errors by type, answers in fact


class OfOneNode(RedisError):
    """Marks a fault of one node: what other nodes hold is not concerned."""


class NodeDown(OfOneNode, ConnectionError):
    """A node cannot be reached, or did not answer the last calls and is not asked at the moment."""


class NodeTooSlow(OfOneNode, TimeoutError):
    """A node did not reply in time."""


class LazyCluster:
    """The client of a cluster, made on first use: what needs a store can be built before there is one."""

    def __init__(self, nodes: list[tuple[str, int]], timeout_s: float, **connection: Any) -> None:
        """`connection`: arguments of the library's client."""
        self._nodes, self._timeout_s, self._connection = nodes, timeout_s, connection
        self._cluster: _Cluster | None = None
        self._lock = threading.Lock()
        self._not_before = 0.0

    def __getattr__(self, name: str) -> Any:
        """A call of the client: the cluster's own, once one of the nodes has told where the slots are."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._cluster or self._found(), name)

    def close(self) -> None:
        """End the connections, if there are any."""
        if self._cluster:
            self._cluster.close()

    def _found(self) -> "_Cluster":
        with self._lock, _as_redis_errors():
            if self._cluster is None:
                if time.monotonic() < self._not_before:  # another thread has just tried
                    raise ConnectionError("connecting to the cluster: no node answered a moment ago")
                try:
                    self._cluster = _Cluster(self._nodes, self._timeout_s, **self._connection)
                except RedisClusterException as error:
                    self._not_before = time.monotonic() + PAUSE_S
                    raise ConnectionError(f"connecting to the cluster: {error}") from error
            return self._cluster


class _Cluster(RedisCluster):
    def __init__(self, nodes: list[tuple[str, int]], timeout_s: float, **connection: Any) -> None:
        self._timeout_s = timeout_s
        self._breakers: dict[str, Breaker] = defaultdict(Breaker)  # by the name of a node
        self._refreshing = threading.Lock()
        self._next_refresh = 0.0
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes], retry=Retry(NoBackoff(), 0),
            require_full_coverage=False, **connection,
        )  # fmt: skip

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command."""
        with _as_redis_errors():
            try:
                return super().execute_command(*args, **options)
            except SlotNotCoveredError:
                self._refresh()
                raise

    def pipeline(self, transaction: bool | None = None, shard_hint: object = None) -> "_Pipeline":
        """Commands that are sent together. What must be one step is a script: no transaction is offered."""
        if transaction:
            raise ClusterError("no transactions on a cluster: a script is one step")
        return _Pipeline(self)

    def _execute_command(self, target_node: ClusterNode, *args: Any, **options: Any) -> Any:
        """Send a command to a node, or to where the cluster points: this in place of the library's."""
        node, asking, redirections = target_node, False, 0
        give_up = time.monotonic() + self._timeout_s
        commands = [(args, options)]
        while redirections <= REDIRECTIONS:
            (reply,) = self.received(node, self.sent(node, commands, asking), commands, asking)
            if isinstance(reply, MovedError):  # an AskError too
                self.nodes_manager.move_slot(reply)
                node, asking, redirections = self._named(reply), False, redirections + 1
            elif isinstance(reply, AskError):
                node, asking, redirections = self._named(reply), True, redirections + 1
            elif isinstance(reply, TryAgainError) and time.monotonic() < give_up:
                time.sleep(TRY_AGAIN_S)
                node, asking, redirections = target_node, False, 0
            elif isinstance(reply, ResponseError):
                raise reply
            else:
                return reply
        raise ClusterError(f"{args[0]}: redirected {redirections} times")

    def sent(self, node: ClusterNode, commands: Commands, asking: bool = False) -> Connection:
        """Send commands to a node, if its breaker lets them; the connection where the replies will come: `received` reads it."""
        if not self._breakers[node.name].allows():
            raise NodeDown(f"node {node.name} does not answer; it is asked again in a moment")
        pool = self.get_redis_connection(node).connection_pool
        with self._reported(node):
            connection: Connection = pool.get_connection()
            try:
                all_args = [("ASKING",)] * asking + [args for args, _ in commands]
                connection.send_packed_command(connection.pack_commands(all_args))
            except BaseException:
                connection.disconnect()
                pool.release(connection)
                raise
        return connection

    def received(self, node: ClusterNode, connection: Connection, commands: Commands, asking: bool = False) -> list[Any]:
        """The replies to what was sent, errors of the server among them."""
        redis, replies = self.get_redis_connection(node), []
        with self._reported(node):
            try:
                if asking:
                    redis.parse_response(connection, "ASKING")
                for args, options in commands:
                    try:
                        reply = redis.parse_response(connection, args[0], **options)
                        parse = self.cluster_response_callbacks.get(args[0])
                        replies.append(parse(reply, **options) if parse else reply)
                    except ResponseError as error:
                        replies.append(error)
            except BaseException:
                connection.disconnect()  # replies that nobody read may follow
                raise
            finally:
                redis.connection_pool.release(connection)
        self._breakers[node.name].succeeded()
        return replies

    @contextmanager
    def _reported(self, node: ClusterNode) -> Iterator[None]:
        """Tells the node's breaker of a failure, looks for the slots again, and names the node."""
        breaker = self._breakers[node.name]
        try:
            yield
        except (ConnectionError, TimeoutError) as error:
            if isinstance(error, ANSWERED):
                breaker.succeeded()
                raise
            breaker.failed(unreachable="connecting" in str(error))  # the library's word for it
            self._refresh(node.name)
            kind = NodeTooSlow if isinstance(error, TimeoutError) else NodeDown
            raise kind(f"node {node.name}: {error}") from error
        except BaseException:
            breaker.succeeded()
            raise

    def _named(self, error: AskError) -> ClusterNode:
        """The node that an answer points to, known or new."""
        node = ClusterNode(error.host, error.port, "primary")
        known: ClusterNode = self.nodes_manager.nodes_cache.setdefault(node.name, node)
        return known

    def _refresh(self, failed: str | None = None) -> None:
        """Ask where the slots are, the failed node last; one thread at a time, four times a second at most."""
        if self._refreshing.acquire(blocking=False):
            try:
                if time.monotonic() > self._next_refresh:
                    self._next_refresh = time.monotonic() + PAUSE_S
                    self.nodes_manager.initialize(disconnect_startup_nodes_pools=False, last_failed_node_name=failed)
            except (RedisError, RedisClusterException):
                pass  # no node could tell: what the caller gets says enough
            finally:
                self._refreshing.release()


class _Pipeline(ClusterPipeline):
    def __init__(self, cluster: _Cluster) -> None:
        self._cluster = cluster
        super().__init__(
            nodes_manager=cluster.nodes_manager, commands_parser=cluster.commands_parser, retry=cluster.retry,
            result_callbacks=cluster.result_callbacks, cluster_response_callbacks=cluster.cluster_response_callbacks,
            load_balancing_strategy=cluster.load_balancing_strategy, lock=cluster._lock,
            event_dispatcher=cluster._event_dispatcher,
        )  # fmt: skip

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """All replies, in order; a command whose slot has moved is sent again where it went."""
        with _as_redis_errors():
            try:
                return self._replies(raise_on_error)
            except SlotNotCoveredError:
                self._cluster._refresh()
                raise
            finally:
                self.reset()

    def _replies(self, raise_on_error: bool) -> list[Any]:
        commands = [(command.args, command.options) for command in self._execution_strategy.command_queue]
        replies = self._first_round(commands)
        give_up = time.monotonic() + self._cluster._timeout_s
        for i, reply in enumerate(replies):
            if isinstance(reply, AskError | TryAgainError) and time.monotonic() < give_up:
                try:
                    args, options = commands[i]
                    replies[i] = self._cluster.execute_command(*args, **options)
                except RedisError as error:
                    replies[i] = error
        if raise_on_error:
            raise_first(replies)
        return replies

    def _first_round(self, commands: Commands) -> list[Any]:
        """Replies or errors: sent to all nodes before any is waited for; one that fails costs its own commands only."""
        nodes: dict[str, ClusterNode] = {}
        places: dict[str, list[int]] = defaultdict(list)
        for i, (args, _) in enumerate(commands):
            (node,) = self.get_nodes_from_slot(args[0], *args)
            nodes[node.name] = node
            places[node.name].append(i)
        replies: list[Any] = [None] * len(commands)
        waited_for: dict[str, Connection] = {}
        for name, node in nodes.items():
            try:
                waited_for[name] = self._cluster.sent(node, [commands[i] for i in places[name]])
            except RedisError as error:
                for i in places[name]:
                    replies[i] = error
        for name, connection in waited_for.items():
            its = [commands[i] for i in places[name]]
            try:
                got: list[Any] = self._cluster.received(nodes[name], connection, its)
            except RedisError as error:
                got = [error] * len(its)
            for i, reply in zip(places[name], got, strict=True):
                replies[i] = reply
        return replies


@contextmanager
def _as_redis_errors() -> Iterator[None]:
    """The library's cluster errors are not of its own family: callers that expect RedisError would not see them."""
    try:
        yield
    except SlotNotCoveredError as error:
        raise ConnectionError(str(error)) from error
    except RedisClusterException as error:
        raise ClusterError(str(error)) from error
