"""What tests below the HTTP surface share: a client of the real redis-server, keys in memory, empty logs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cloister_common.ids import new_id
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.redis_client import command_client
from cloister_gateway.settings import RedisSettings
from cloister_gateway.state import ItemLog, Owner, record_key
from redis.asyncio import Redis

from tests.support.gateway import secret_file
from tests.support.redis_server import RedisServer

MakeOwner = Callable[..., Awaitable[Owner]]


def item(text: str = "hello") -> dict[str, Any]:
    return {"id": new_id("msg_"), "type": "message", "text": text}


async def filled(items: ItemLog, owner: Owner, count: int = 5) -> list[dict[str, Any]]:
    written = [item(f"item {number}") for number in range(1, count + 1)]
    for body in written:
        await items.append(owner, [body])
    return written


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """The gateway's own client."""
    client = command_client(RedisSettings.model_validate(redis_server.settings))
    yield client
    await client.aclose()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring with a root key of its own."""
    return Keyring("gateway", FileRootKey(secret_file(tmp_path, "root")), MemoryKeyStore())


@pytest.fixture
def items(redis: Redis) -> ItemLog:
    return ItemLog(redis)


@pytest.fixture
def make_log(redis: Redis, keyring: Keyring, items: ItemLog) -> MakeOwner:
    """Makes empty conversations, by default of one tenant."""

    async def make(tenant: str = "proj_a") -> Owner:
        object_id = new_id("conv_")
        owner = Owner("conv", object_id, await keyring.create(tenant, "conv", object_id))
        fields: dict[Any, Any] = dict(items.new_head(owner))
        await redis.hset(record_key("conv", object_id), mapping=fields)
        return owner

    return make
