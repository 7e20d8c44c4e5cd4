"""Keys in Redis: replaced where they are what they were, listed, forgotten by all gateways when one destroys them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.vault import FileRootKey, Keyring
from cloister_common.vault.record import record_epoch
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.keys import RedisKeyStore
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from tests.support.gateway import GatewayFixture, secret_file
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = command_client(RedisSettings.model_validate(redis_server.settings))
    yield client
    await client.aclose()


async def test_key_is_replaced_only_where_it_is_what_it_was(redis: Redis) -> None:
    store = RedisKeyStore(redis)
    assert not await store.replace("conv:1", b"one", b"two")
    assert await store.get("conv:1") is None
    await store.put_if_absent("conv:1", b"one")
    assert not await store.replace("conv:1", b"other", b"two")
    assert await store.replace("conv:1", b"one", b"two")
    assert await store.get("conv:1") == b"two"


async def test_keys_of_two_epochs_lie_side_by_side_and_are_brought_over(redis: Redis, tmp_path: Path) -> None:
    store, root = RedisKeyStore(redis), FileRootKey(secret_file(tmp_path, "root"))
    mine, other = Keyring("gateway", root, store), Keyring("gateway", root, store)
    keys = {f"conv_{number}": await mine.create("proj_a", "conv", f"conv_{number}") for number in range(3)}
    assert await mine.begin_epoch("proj_a") == 2
    keys["conv_3"] = await mine.create("proj_a", "conv", "conv_3")
    for name in [name async for name in mine.names("conv")]:
        await mine.rewrap("proj_a", "conv", name.removeprefix("conv:"))
        other.forget_all()
        for object_id, key in keys.items():
            found = await other.get("proj_a", "conv", object_id)
            assert found is not None
            assert found.subkey("items") == key.subkey("items")
    wrapped = [await store.get(f"conv:{object_id}") for object_id in keys]
    assert [record_epoch(value or b"") for value in wrapped] == [2] * 4
    assert len([name async for name in mine.names("tenant")]) == 2


@pytest.fixture
def urls(fresh_gateway: GatewayFixture) -> Iterator[tuple[str, str]]:
    """Two gateways over a Redis whose connections no other test uses."""
    with fresh_gateway.serve() as first, fresh_gateway.serve() as second:
        yield first, second


@pytest.fixture
def plain(redis_server: RedisServer) -> Iterator[SyncRedis]:
    """Redis as somebody who puts things back sees it."""
    client = redis_server.client()
    yield client
    client.close()


def conversation(gateway: GatewayFixture, urls: tuple[str, str]) -> str:
    """A conversation whose key is in the memory of both gateways."""
    made = httpx.post(f"{urls[0]}/v1/conversations", headers=gateway.headers(), json={}).json()["id"]
    for url in urls:
        assert read(gateway, url, made) == 200
    return str(made)


def read(gateway: GatewayFixture, url: str, conversation_id: str) -> int:
    return httpx.get(f"{url}/v1/conversations/{conversation_id}", headers=gateway.headers()).status_code


def test_what_one_gateway_destroyed_no_other_opens_even_where_it_is_put_back(
    fresh_gateway: GatewayFixture, urls: tuple[str, str], plain: Any
) -> None:
    made = conversation(fresh_gateway, urls)
    (name,) = [key for key in plain.keys(f"*{made}*") if not key.startswith(b"vault:")]
    kept = plain.dump(name)
    assert httpx.delete(f"{urls[0]}/v1/conversations/{made}", headers=fresh_gateway.headers()).status_code == 200
    plain.restore(name, 0, kept)
    wait_until(lambda: read(fresh_gateway, urls[1], made) == 404, seconds=5, what="the word of the destroyed key")


def test_gateway_that_may_have_missed_a_word_drops_every_key(
    fresh_gateway: GatewayFixture, urls: tuple[str, str], plain: Any
) -> None:
    made = conversation(fresh_gateway, urls)
    plain.delete(f"vault:conv:{made}")
    assert read(fresh_gateway, urls[1], made) == 200, "nobody told it"
    plain.client_kill_filter(_type="pubsub")
    wait_until(lambda: read(fresh_gateway, urls[1], made) == 404, seconds=10, what="the end of all keys in memory")
