"""Where the gateway's wrapped keys lie: in Redis, beside what they seal, and useless without the root key."""

from typing import cast

from redis.asyncio import Redis

__all__ = ["RedisKeyStore"]


class RedisKeyStore:
    """The `cloister_common.vault.KeyStore` over Redis. A write that returned is on disk (``appendfsync always``)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, name: str) -> bytes | None:
        return cast("bytes | None", await self._redis.get(_key(name)))

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return bool(await self._redis.set(_key(name), wrapped, nx=True))

    async def delete(self, name: str) -> None:
        await self._redis.delete(_key(name))


def _key(name: str) -> str:
    return f"vault:{name}"
