"""A Redis Cluster of three masters with two replicas each, which takes about three seconds to start."""

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from cloister_common.testing.serving import free_port
from redis.crc import key_slot

from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

__all__ = ["RedisCluster"]

_MASTERS = 3
_REPLICAS = 2
"""Of each: with one, nothing could be confirmed from its master's death until that is back."""
_NODE_TIMEOUT_MILLISECONDS = 3000
"""Longer than a machine stands still: who does is not taken for dead by all others at once."""
_STEADY_MILLISECONDS = 60_000
_ELECTION_SECONDS = 90.0
"""A replica that missed a vote, since somebody stood still, asks again after four times the timeout."""


class RedisCluster:
    """Nine servers on ports of their own.

    Args:
        folder: Where their files lie.
        kind: What each of them is.
    """

    def __init__(self, folder: Path, kind: type[RedisServer] = RedisServer) -> None:
        password = secrets.token_hex(16)
        self.servers = [
            kind(
                folder / f"node-{number}",
                password=password,
                masterauth=password,
                **{
                    "cluster-enabled": "yes",
                    "cluster-node-timeout": str(_NODE_TIMEOUT_MILLISECONDS),
                    # A replica that was away may be chosen all the same: here nobody waits for it to become current.
                    "cluster-replica-validity-factor": "0",
                    "repl-diskless-sync-delay": "0",
                    "repl-timeout": "5",
                },
            )
            for number in range(_MASTERS * (1 + _REPLICAS))
        ]
        for server in self.servers:
            server.options["cluster-port"] = str(free_port())

    @property
    def settings(self) -> dict[str, object]:
        """The ``redis`` section of a gateway's settings."""
        return {
            "cluster": {"urls": [server.url for server in self.servers[:2]]},
            "password_file": str(self.servers[0].password_file),
            "start_seconds": 5,
        }

    def start(self) -> Self:
        """Starts it; returns when all slots are served and each master has its replica."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_until(server.answers, "it is ready")
        nodes = [f"127.0.0.1:{server.port}" for server in self.servers]
        self.cli("--cluster", "create", *nodes, "--cluster-replicas", str(_REPLICAS), "--cluster-yes")
        wait_until(lambda: all(self._is_whole(server) for server in self.servers), what="the cluster is whole")
        return self

    def stop(self) -> None:
        """Ends it at once."""
        for server in self.servers:
            server.kill()

    def cli(self, *arguments: str) -> str:
        """What ``redis-cli`` says."""
        program = shutil.which("redis-cli")
        assert program is not None
        done = subprocess.run(
            [program, "-a", self.servers[0].password, "--no-auth-warning", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def master_of(self, key: str) -> RedisServer:
        """The server that has the slot of a key."""
        slot = key_slot(key.encode())
        owner = self._owner(slot, self._slots())
        assert owner is not None, f"nobody has slot {slot}"
        return owner

    @property
    def masters(self) -> list[RedisServer]:
        """The servers that have slots."""
        return list(dict.fromkeys(self._at(int(master[1])) for _, _, master, *_ in self._slots()))

    def kill_master_of(self, key: str) -> RedisServer:
        """Kills the master that has the slot of a key; gives it when another has it, and a replica, without which it
        confirms nothing."""
        master = self.master_of(key)
        master.kill()
        wait_until(lambda: master not in self.masters, seconds=_ELECTION_SECONDS, what="another one has its slots")
        wait_until(lambda: self.master_of(key).replicas() == _REPLICAS - 1, what="its replica has followed")
        return master

    def revive(self, server: RedisServer) -> None:
        """Starts a server again that was killed, and waits until the cluster is whole."""
        server.start()
        wait_until(lambda: all(self._is_whole(server) for server in self.servers), what="the cluster is whole")

    @contextlib.contextmanager
    def steady(self) -> Iterator[None]:
        """While it lasts no master is taken for dead. One that a slow disk holds for a second would be, and a replica
        that takes its place does not know of a slot on its way: who asks for it meanwhile is told that the cluster is
        down, and rightly."""
        self._set_node_timeout(_STEADY_MILLISECONDS)
        try:
            yield
        finally:
            self._set_node_timeout(_NODE_TIMEOUT_MILLISECONDS)

    def move(self, key: str) -> RedisServer:
        """Moves the slot of a key to another master, as ``redis-cli --cluster reshard`` does; gives that master when
        all servers know it."""
        source = self.master_of(key)
        target = next(master for master in self.masters if master is not source)
        slot = key_slot(key.encode())
        with source.client() as old, target.client() as new:
            ids = {client: client.execute_command("CLUSTER MYID").decode() for client in (old, new)}
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[old])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[new])
            migrate = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", target.password, "KEYS")
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                old.execute_command(*migrate, *keys)
            for client in (new, old):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[new])
        wait_until(
            lambda: all(self._owner(slot, _slots_at(server)) is target for server in self.servers),
            what=f"all know who has slot {slot}",
        )
        return target

    def _set_node_timeout(self, milliseconds: int) -> None:
        for server in self.servers:
            with server.client() as client:
                client.config_set("cluster-node-timeout", milliseconds)

    def _slots(self) -> list[Any]:
        for server in self.servers:
            if server.runs and server.answers():
                return _slots_at(server)
        raise AssertionError("no node answers")

    def _owner(self, slot: int, slots: list[Any]) -> RedisServer | None:
        ports = (int(master[1]) for first, last, master, *_ in slots if first <= slot <= last)
        return next(map(self._at, ports), None)

    def _is_whole(self, server: RedisServer) -> bool:
        with server.client() as client:
            state: Any = client.execute_command("CLUSTER INFO")
            nodes: Any = client.execute_command("CLUSTER NODES")
            replication = client.info("replication")
        lines = nodes.values() if isinstance(nodes, dict) else []
        replicas = [node for node in lines if "slave" in node["flags"] and "fail" not in node["flags"]]
        synced = replication["role"] == "master" or replication["master_link_status"] == "up"
        return state["cluster_state"] == "ok" and len(replicas) == _MASTERS * _REPLICAS and synced

    def _at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)


def _slots_at(server: RedisServer) -> list[Any]:
    with server.client() as client:
        found: list[Any] = client.execute_command("CLUSTER SLOTS")
        return found
