"""A real cluster of three servers that a test may kill, and whose slots it may move."""

from collections.abc import Callable
from pathlib import Path

from redis import Redis
from redis.crc import key_slot

from store.connection import connect
from tests.service.serving import until
from tests.store.servers import VALKEY, Server, free_port

SLOTS = 16384
SETTINGS = {
    "cluster_enabled": "yes",
    "cluster_node_timeout": 2000,
    "cluster_require_full_coverage": "no",
    "appendonly": "no",
    "repl_diskless_sync_delay": 0,
}


class Cluster:
    """Masters, each with an equal range of slots."""

    def __init__(self, folder: Path, binary: str = VALKEY, nodes: int = 3) -> None:
        self._folder, self._binary = folder, binary
        self.servers: list[Server] = []
        self._clients: list[Redis] = []
        self._bus: list[int] = []
        for _ in range(nodes):
            self._start_node()
        self.ids = [client.execute_command("CLUSTER", "MYID").decode() for client in self._clients]
        bounds = [SLOTS * i // nodes for i in range(nodes + 1)]
        for i, client in enumerate(self._clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
            if i:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port, self._bus[0])
        until(self._formed)

    @property
    def url(self) -> str:
        """All nodes; a client needs one that runs."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def node(self, i: int) -> Redis:
        """A client of one node, not of the cluster."""
        return self._clients[i]

    def node_of(self, slot: int) -> int:
        """Which node says that the slot is its own."""
        for first, last, (_, port, *_), *_ in self._clients[0].execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return [server.port for server in self.servers].index(port)
        raise AssertionError(f"slot {slot} is nobody's")

    def user_on(self, node: int) -> str:
        """Some user whose keys that node has."""
        return next(f"x{i}" for i in range(1000) if self.node_of(key_slot(b"x%d" % i)) == node)

    def add_replica(self, of: int) -> Server:
        """A fourth server that follows a node."""
        server = self._start_node()
        client = self._clients[-1]
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port, self._bus[0])
        until(self._formed)
        client.execute_command("CLUSTER", "REPLICATE", self.ids[of])
        until(lambda: client.info("replication")["master_link_status"] == "up")
        until(lambda: all(str(server.port) in str(node.execute_command("CLUSTER", "SLOTS")) for node in self._clients))
        return server

    def move_slot(self, slot: int, source: int, target: int, each: Callable[[], None] = lambda: None) -> int:
        """Move a slot key by key, as every version can; `each` is called after each key. How many keys moved."""
        self._clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source])
        self._clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target])
        moved = 0
        while names := self._clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            self._clients[source].execute_command("MIGRATE", "127.0.0.1", self.servers[target].port, names[0], 0, 5000)
            moved += 1
            each()
        for i in (target, source, *set(range(len(self.ids))) - {target, source}):
            self._clients[i].execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.ids[target])
        return moved

    def close(self) -> None:
        """Kill all."""
        for client in self._clients:
            client.close()
        for server in self.servers:
            server.kill()

    def _start_node(self) -> Server:
        bus = free_port()
        server = Server(self._binary, self._folder / f"node{len(self.servers)}", cluster_port=bus, **SETTINGS)
        server.start()
        self.servers.append(server)
        self._bus.append(bus)
        self._clients.append(connect(server.url))
        return server

    def _formed(self) -> bool:
        infos = [client.execute_command("CLUSTER", "INFO") for client in self._clients]
        known = f"cluster_known_nodes:{len(infos)}"
        return all("cluster_state:ok" in str(info) and known in str(info) for info in infos)
