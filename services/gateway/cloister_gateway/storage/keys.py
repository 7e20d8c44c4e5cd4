"""Where the gateway's wrapped keys lie: in Redis, beside what they seal, and useless without the root key."""

from typing import cast

from redis.asyncio import Redis

from cloister_gateway.storage.layout import wrapped_key_key

__all__ = ["RedisKeyStore"]


class RedisKeyStore:
    """The `cloister_common.vault.KeyStore` over Redis. A write that returned is on disk (``appendfsync always``)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, name: str) -> bytes | None:
        return cast("bytes | None", await self._redis.get(wrapped_key_key(name)))

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return bool(await self._redis.set(wrapped_key_key(name), wrapped, nx=True))

    async def delete(self, name: str) -> None:
        await self._redis.delete(wrapped_key_key(name))
