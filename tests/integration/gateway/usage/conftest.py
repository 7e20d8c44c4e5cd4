"""What tests of the ledger's stores share."""

from collections.abc import AsyncIterator

import pytest
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import command_client
from redis.asyncio import Redis

from tests.support.redis_server import RedisServer


@pytest.fixture
async def redis(_redis_process: RedisServer) -> AsyncIterator[Redis]:
    _redis_process.flush()
    redis = command_client(RedisSettings.model_validate(_redis_process.settings))
    yield redis
    await redis.aclose()
