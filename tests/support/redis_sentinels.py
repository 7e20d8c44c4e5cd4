"""Three Redis servers and three sentinels that watch them: who is killed is replaced within about five seconds."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis
from cloister_common.testing.serving import free_port

from tests.support.process import Process
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

__all__ = ["WatchedRedis"]

SERVICE = "cloister"
_DOWN_AFTER_MILLISECONDS = 3000
"""Longer than a machine stands still. Sentinels that take a living master for dead, and the next one after it, leave
replicas at masters that are none any more, where nothing is confirmed until they are put right ten seconds later."""
_TILT_SECONDS = 90.0
"""Sentinels that stood still for over two seconds do nothing for thirty, since they do not trust their clock."""

_SETTINGS = """
port {port}
bind 127.0.0.1
dir {folder}
requirepass {own_password}
sentinel sentinel-pass {own_password}
sentinel monitor {service} 127.0.0.1 {master} 2
sentinel auth-pass {service} {password}
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 3000
"""


class _Sentinel(Process):
    title = "the sentinel"
    look_seconds = 0.02

    def __init__(self, folder: Path, master: RedisServer, own_password: str) -> None:
        super().__init__(folder / "log")
        self.port = free_port()
        self.password = own_password
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            _SETTINGS.format(
                port=self.port,
                folder=folder,
                own_password=own_password,
                service=SERVICE,
                master=master.port,
                password=master.password,
                down_after=_DOWN_AFTER_MILLISECONDS,
            ),
            encoding="utf-8",
        )

    def command(self) -> Sequence[str]:
        program = shutil.which("redis-server")
        assert program is not None
        return [program, str(self._file), "--sentinel"]

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=self.password, decode_responses=True)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class WatchedRedis:
    """One master, two replicas, three sentinels with a password of their own.

    Args:
        folder: Where their files lie.
    """

    def __init__(self, folder: Path) -> None:
        password, own_password = secrets.token_hex(16), secrets.token_hex(16)
        self._servers = [
            # (A replica of a master that is gone must not wait a minute for it.)
            RedisServer(
                folder / f"redis-{number}",
                password=password,
                masterauth=password,
                **{"repl-timeout": "5", "repl-diskless-sync-delay": "0"},
            )
            for number in range(3)
        ]
        self._sentinels = [_Sentinel(_made(folder / f"sentinel-{n}"), self._servers[0], own_password) for n in range(3)]
        self._password_file = folder / "sentinel-password"
        self._password_file.write_text(own_password, encoding="utf-8")

    @property
    def settings(self) -> dict[str, object]:
        """The ``redis`` section of a gateway's settings."""
        return {
            "sentinel": {
                "urls": [f"redis://127.0.0.1:{sentinel.port}" for sentinel in self._sentinels],
                "service": SERVICE,
                "password_file": str(self._password_file),
            },
            "password_file": str(self._servers[0].password_file),
            "start_seconds": 5,
        }

    @property
    def master(self) -> RedisServer:
        """The server that is the master, as most sentinels have it."""
        ports = []
        for sentinel in self._sentinels:
            with sentinel.client() as client:
                ports.append(int(client.sentinel_get_master_addr_by_name(SERVICE)[1]))
        port = max(ports, key=ports.count)
        return next(server for server in self._servers if server.port == port)

    @property
    def replicas(self) -> list[RedisServer]:
        """The others."""
        master = self.master
        return [server for server in self._servers if server is not master]

    def start(self) -> Self:
        """Starts all of them; returns when the master has its replicas and the sentinels know of each other."""
        for server in self._servers[1:]:
            server.options["replicaof"] = f"127.0.0.1 {self._servers[0].port}"
        for server in self._servers:
            server.launch()
        for server in self._servers:
            server.wait_until(server.answers, "it is ready")
        # Sentinels ask a master for its replicas at once, and then every ten seconds.
        wait_until(lambda: self._servers[0].replicas() == 2, what="the replicas are online")
        for sentinel in self._sentinels:
            sentinel.launch()
        wait_until(self._whole, seconds=30, what="the replicas and sentinels have found each other", every=0.05)
        return self

    def _whole(self) -> bool:
        states = []
        for sentinel in self._sentinels:
            if not sentinel.answers():
                return False
            with sentinel.client() as client:
                states.append(client.sentinel_master(SERVICE))
        return self.master.replicas() == 2 and all(
            (int(state["num-slaves"]), int(state["num-other-sentinels"])) == (2, 2) for state in states
        )

    def kill_master(self) -> RedisServer:
        """Kills the master; gives it when there is another that has a replica, without which it confirms nothing."""
        master = self.master
        master.kill()
        wait_until(lambda: self.master is not master, seconds=_TILT_SECONDS, what="the sentinels have made another one")
        wait_until(lambda: self.master.replicas() == 1, what="the replica that is left has followed")
        return master

    def revive(self, server: RedisServer) -> None:
        """Starts a former master again as the replica that its sentinels would make of it some ten seconds later."""
        server.options["replicaof"] = f"127.0.0.1 {self.master.port}"
        server.start()
        wait_until(lambda: self.master.replicas() == 2, what="the replica is online")

    def stop(self) -> None:
        """Ends all of them at once."""
        for process in (*self._sentinels, *self._servers):
            process.kill()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
