"""Several servers that belong together: a cluster, and a master with a replica and a sentinel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS

from tests.servers import PlainServer, free_port

NODE_TIMEOUT_MS = 500
SERVICE = "routers"
AT_ONCE = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "0"}
"""Replicas are filled, and servers go, without the delays that real operation wants."""


class Cluster:
    """A Redis Cluster of masters on loopback ports; the slots are spread evenly.

    Args:
        replicas: whether each master gets a replica.
        options: more of the servers' settings.

    Example:
        with Cluster(tmp_path) as cluster:
            open_redis(Settings(redis_url=cluster.url))
    """

    def __init__(
        self,
        folder: Path,
        *,
        masters: int = 3,
        replicas: bool = False,
        options: dict[str, str] | None = None,
    ) -> None:
        self._options = options or {}
        self.masters = [self._server(folder / f"master-{n}") for n in range(masters)]
        replicated = self.masters if replicas else []
        self.replicas = [self._server(folder / f"replica-{n}") for n in range(len(replicated))]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in self.masters)
        self._running = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as running:
            for server in self.servers:
                running.enter_context(server)
            self._join()
            self._running = running.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    @property
    def servers(self) -> list[PlainServer]:
        return self.masters + self.replicas

    def client(self, server: PlainServer) -> redis.Redis:
        """redis-py's client of one node."""
        return redis.Redis.from_url(server.url, decode_responses=True)

    def flush(self) -> None:
        """Empty all masters."""
        for server in self.masters:
            with self.client(server) as client:
                client.flushall()

    def key_names(self) -> set[str]:
        """The names of all keys, on all masters."""
        found: set[str] = set()
        for server in self.masters:
            with self.client(server) as client:
                found.update(client.scan_iter(count=1000))
        return found

    def master_of(self, slot: int) -> PlainServer:
        """Which of the masters serves a slot."""
        for first, last, (_, port, *_), *_ in self._slots(self.masters[0]):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def id_of(self, server: PlainServer) -> str:
        with self.client(server) as client:
            return str(client.execute_command("CLUSTER MYID"))

    def move(
        self, slot: int, target: PlainServer, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does.

        Args:
            meanwhile: called while the slot's keys are here and there.
        """
        source = self.master_of(slot)
        with self.client(source) as here, self.client(target) as there:
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(target))
            if meanwhile is not None:
                meanwhile()
            while names := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                here.migrate("127.0.0.1", target.port, names, 0, 5000)
            for server in (target, source, *self.masters):
                with self.client(server) as client:
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", self.id_of(target))

    def wait_until_whole(self) -> None:
        """Wait until every node knows a master for every slot."""
        for server in self.servers:
            until(lambda server=server: self._is_whole(server), "the cluster to be whole")

    def _server(self, folder: Path) -> PlainServer:
        options = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-port": str(free_port()),
            **AT_ONCE,
            **self._options,
        }
        return PlainServer(folder, tcp=True, options=options)

    def _join(self) -> None:
        count = len(self.masters)
        ends = [REDIS_CLUSTER_HASH_SLOTS * n // count for n in range(count + 1)]
        for n, server in enumerate(self.masters):
            with self.client(server) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", ends[n], ends[n + 1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        with self.client(self.masters[0]) as first:
            for server in self.servers[1:]:
                bus = server.options["cluster-port"]
                first.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
        for master, replica in zip(self.masters, self.replicas, strict=False):
            name = self.id_of(master)
            with self.client(replica) as client:
                until(
                    lambda c=client, i=name: i in str(c.execute_command("CLUSTER NODES")),
                    "a meeting",
                )
                client.execute_command("CLUSTER REPLICATE", name)
                until(
                    lambda c=client: c.info("replication").get("master_link_status") == "up",
                    "a replica",
                )
        self.wait_until_whole()

    def _is_whole(self, server: PlainServer) -> bool:
        with self.client(server) as client:
            info = client.execute_command("CLUSTER INFO")
            state = info if isinstance(info, dict) else dict(_lines(info))
        known = {port for _, _, (_, port, *_), *_ in self._slots(server)}
        return state["cluster_state"] == "ok" and len(known) == len(self.masters)

    def _slots(self, server: PlainServer) -> Any:
        with redis.Redis.from_url(server.url, decode_responses=True, protocol=2) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command("CLUSTER", "SLOTS")
            return connection.read_response()


class Watched:
    """A master, its replica, and a sentinel that promotes the replica when the master is gone."""

    def __init__(self, folder: Path) -> None:
        self.master = PlainServer(folder / "master", tcp=True, options=AT_ONCE)
        following = {"replicaof": f"127.0.0.1 {self.master.port}", **AT_ONCE}
        self.replica = PlainServer(folder / "replica", tcp=True, options=following)
        self.sentinel = _Sentinel(folder / "sentinel", self.master.port)
        self.url = f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"
        self._running = ExitStack()

    def __enter__(self) -> Watched:
        with ExitStack() as running:
            for server in (self.master, self.replica, self.sentinel):
                running.enter_context(server)
            with redis.Redis.from_url(self.sentinel.url, decode_responses=True) as client:
                until(lambda: client.sentinel_slaves(SERVICE), "the sentinel to know the replica")
            with redis.Redis.from_url(self.replica.url, decode_responses=True) as client:
                until(lambda: client.info("replication")["master_link_status"] == "up", "a replica")
            self._running = running.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()


class _Sentinel(PlainServer):
    def __init__(self, folder: Path, master: int) -> None:
        super().__init__(folder, tcp=True)
        self._master = master

    def _words(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\nlogfile plain.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 300\n"
            f"sentinel failover-timeout {SERVICE} 2000\nshutdown-timeout 0\n"
        )
        return [str(config), "--sentinel"]


def until(what: Callable[[], Any], name: str, seconds: float = 20.0) -> None:
    """Poll until `what` gives something true.

    Raises:
        AssertionError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {name}"
        time.sleep(0.02)


def _lines(info: str) -> Iterator[tuple[str, str]]:
    for line in info.split():
        name, _, value = line.partition(":")
        yield name, value
