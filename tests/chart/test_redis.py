"""The bundled Redis as the chart configures it: a real redis-server with the rendered settings and users."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
from cloister_common.testing.serving import free_port

from tests.support.helm import Rendered, render
from tests.support.process import Process


class ChartRedis(Process):
    """The server; its settings changed only in where it listens and where its files are."""

    title = "the chart's Redis"

    def __init__(self, rendered: Rendered, folder: Path) -> None:
        super().__init__(folder / "log")
        secret = rendered.one("Secret", "cloister-redis-auth")["stringData"]
        self.passwords = {"cloister": secret["password"], "watch": secret["watch-password"]}
        self.port = free_port()
        (folder / "users.acl").write_text(secret["users.acl"])
        settings = str(rendered.one("ConfigMap", "cloister-redis")["data"]["redis.conf"])
        self.file = folder / "redis.conf"
        self.file.write_text(
            settings.replace("port 6379", f"port {self.port}\nbind 127.0.0.1")
            .replace("/run/cloister/secrets", str(folder))
            .replace("dir /data", f"dir {folder}")
        )

    def client(self, user: str) -> redis.Redis:
        return redis.Redis(port=self.port, username=user, password=self.passwords[user])

    def command(self) -> Sequence[str]:
        return ["redis-server", str(self.file)]

    def answers(self) -> bool:
        try:
            with self.client("watch") as watch:
                return bool(watch.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChartRedis]:
    made = ChartRedis(render("quickstart", values={"tls": {"enabled": False}}), tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_transactions_and_scripts_are_there_again_after_a_restart(server: ChartRedis) -> None:
    with server.client("cloister") as store:
        with store.pipeline(transaction=True) as pipeline:
            pipeline.hset("identity:key:1", "mac", "m")
            pipeline.zadd("identity:keys", {"1": 1})
            pipeline.execute()
        store.eval("redis.call('set', KEYS[1], '1'); redis.call('set', KEYS[2], '2')", 2, "a", "b")
        store.set("alone", "1")
    server.kill()
    server.start()
    with server.client("cloister") as store:
        assert store.hget("identity:key:1", "mac") == b"m"
        assert store.zrange("identity:keys", 0, -1) == [b"1"]
        assert [store.get(name) for name in ("a", "b", "alone")] == [b"1", b"2", b"1"]


def test_nobody_is_let_in_without_a_password(server: ChartRedis) -> None:
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=server.port, password="") as default, pytest.raises(redis.AuthenticationError):
        default.execute_command("AUTH", "default", "")


def test_each_user_may_do_its_work_and_no_more(server: ChartRedis) -> None:
    with server.client("cloister") as store:
        assert store.config_get("appendfsync") == {"appendfsync": "always"}
        assert store.execute_command("ACL", "DRYRUN", "default", "SET", "k", "v") == b"OK"
        for refused in ("FLUSHALL", "SHUTDOWN", "ACL LIST", "CONFIG SET maxmemory 1"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                store.execute_command(*refused.split())
    with server.client("watch") as watch:
        watch.config_set("timeout", "0")
        for refused in ("GET k", "SET k v", "CONFIG GET *", "KEYS *"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                watch.execute_command(*refused.split())
