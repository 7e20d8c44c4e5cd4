"""How the gateway starts, refuses to start, and comes back after Redis did."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cloister_common.settings import SettingsError
from cloister_common.testing.serving import free_port, served
from cloister_gateway.app import create_app
from cloister_gateway.commands import open_directory
from cloister_gateway.settings import GatewaySettings

from tests.support.certificates import certificate_for
from tests.support.gateway import GatewayFixture, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


async def start(settings: GatewaySettings) -> None:
    async with open_directory(settings):
        pass


@pytest.fixture
def careless_redis(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "careless", **request.param)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("careless_redis", "fault"),
    [
        ({"appendonly": "no"}, "appendonly is no"),
        ({"appendfsync": "everysec"}, "appendfsync is everysec"),
        ({"maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
    ],
    indirect=["careless_redis"],
)
async def test_redis_that_may_lose_writes_is_refused_unless_allowed(
    tmp_path: Path, careless_redis: RedisServer, fault: str
) -> None:
    with pytest.raises(SettingsError, match=fault):
        await start(gateway_settings(tmp_path, careless_redis))
    await start(
        gateway_settings(tmp_path, careless_redis, redis={**careless_redis.settings, "durability": "best_effort"})
    )


@pytest.mark.parametrize("careless_redis", [{}], indirect=True)
async def test_redis_that_would_not_replay_transactions_is_refused(tmp_path: Path, careless_redis: RedisServer) -> None:
    with careless_redis.client() as redis:
        redis.execute_command("ACL", "SETUSER", "gateway", "on", f">{careless_redis.password}", "~*", "&*", "+@all")
        redis.execute_command("ACL", "SETUSER", "default", "off", "-@all")
    settings = {**careless_redis.settings, "username": "gateway"}
    with pytest.raises(SettingsError, match="the default user is restricted"):
        await start(gateway_settings(tmp_path, careless_redis, redis=settings))


async def test_managed_redis_that_hides_its_settings_is_accepted(tmp_path: Path, redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.acl_setuser(
            "gateway",
            enabled=True,
            passwords=[f"+{redis_server.password}"],
            categories=["+@all", "-@dangerous"],
            keys=["*"],
            channels=["*"],
        )
        try:
            await start(
                gateway_settings(tmp_path, redis_server, redis={**redis_server.settings, "username": "gateway"})
            )
        finally:
            redis.acl_deluser("gateway")


async def test_redis_over_tls_is_used_only_if_its_authority_is_trusted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path)
    tls = {"tls-port": str(free_port()), "tls-cert-file": str(certificate), "tls-key-file": str(key)}
    server = RedisServer(tmp_path / "tls", **tls, **{"tls-auth-clients": "no"})
    server.start()
    try:
        settings = gateway_settings(tmp_path, server, redis=server.tls_settings(certificate))
        with served(create_app(settings)) as url:
            assert httpx.get(f"{url}/readyz").json()["parts"]["redis"] == "ready"
        stranger, _ = certificate_for("127.0.0.1", tmp_path / "stranger")
        untrusted = {**server.tls_settings(stranger), "start_seconds": 0.3}
        with pytest.raises(SettingsError, match="does not answer"):
            await start(gateway_settings(tmp_path, server, redis=untrusted))
        # As commands do, whose event loop is asyncio's own.
        await start(settings)
        await asyncio.sleep(0.1)  # the loop tells connections of their end after they were closed
        assert [record for record in caplog.records if record.name == "asyncio"] == []
    finally:
        server.stop()


async def test_other_root_key_than_the_stores_is_refused(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = gateway_settings(tmp_path, redis_server)
    await start(settings)
    secret_file(tmp_path, "root", "0123456789abcdef" * 4)
    with pytest.raises(SettingsError, match="not the one that sealed"):
        await start(settings)


async def test_wrong_redis_password_is_named(tmp_path: Path, redis_server: RedisServer) -> None:
    wrong = str(secret_file(tmp_path, "wrong", "not the password"))
    settings = gateway_settings(tmp_path, redis_server, redis={**redis_server.settings, "password_file": wrong})
    with pytest.raises(SettingsError, match="refuses the credentials"):
        await start(settings)


async def test_redis_that_is_not_there_is_named(tmp_path: Path, redis_server: RedisServer) -> None:
    redis = {**redis_server.settings, "url": "redis://127.0.0.1:1", "start_seconds": 0.3}
    with pytest.raises(SettingsError, match="does not answer"):
        await start(gateway_settings(tmp_path, redis_server, redis=redis))


async def test_missing_secret_is_named(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = gateway_settings(tmp_path, redis_server)
    settings.identity.pepper_file.unlink()
    with pytest.raises(SettingsError, match="the pepper of the API keys"):
        await start(settings)


def command(settings_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "cloister_gateway", *arguments, "--config", str(settings_file)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_operators_bootstrap_make_list_and_revoke_keys(tmp_path: Path, redis_server: RedisServer) -> None:
    settings_file = tmp_path / "gateway.yaml"
    values = gateway_settings(tmp_path, redis_server).model_dump(mode="json", exclude_none=True)
    settings_file.write_text(yaml.safe_dump(values), encoding="utf-8")

    made = command(settings_file, "bootstrap", "--format", "env")
    assert made.returncode == 0, made.stderr
    keys = dict(line.split("=", 1) for line in made.stdout.splitlines())
    assert set(keys) == {"OPENAI_API_KEY", "CLOISTER_ADMIN_KEY"}
    again = command(settings_file, "bootstrap", "--format", "env")
    assert again.returncode == 0
    assert all(line.startswith("#") for line in again.stdout.splitlines())

    project = command(settings_file, "keys", "list").stdout.split()[0]
    issued = command(
        settings_file, "keys", "create", "--project", project, "--name", "Falcon", "--scope", "server_state_only"
    ).stdout.split()
    listed = command(settings_file, "keys", "list", "--project", project).stdout
    assert "api,server_state_only" in listed
    assert issued[0] in listed
    assert issued[1] not in listed
    assert command(settings_file, "keys", "revoke", issued[0]).returncode == 0
    unknown = command(settings_file, "keys", "revoke", issued[0])
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (2, 1)


def test_gateway_answers_503_while_redis_is_away_and_works_when_it_is_back(
    fresh_gateway: GatewayFixture, fresh_url: str, redis_server: RedisServer
) -> None:
    def models() -> httpx.Response:
        return httpx.get(f"{fresh_url}/v1/models", headers=fresh_gateway.headers())

    def parts() -> Any:
        return httpx.get(f"{fresh_url}/readyz").json()["parts"]

    assert models().status_code == 200
    redis_server.kill()
    wait_until(lambda: models().status_code == 503)
    assert models().json()["error"]["code"] == "unavailable"
    assert parts()["redis"] != "ready"
    assert httpx.get(f"{fresh_url}/livez").status_code == 200
    redis_server.start()
    wait_until(lambda: parts()["redis"] == "ready")
    assert models().status_code == 200
