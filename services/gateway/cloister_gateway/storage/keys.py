"""Where the gateway's wrapped keys lie: in Redis, beside what they seal, and useless without the root key."""

from collections.abc import AsyncIterator
from typing import cast

from redis.asyncio import Redis

from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import wrapped_key_key, wrapped_key_name

__all__ = ["RedisKeyStore"]

_NAMES_A_STEP = 1000

# KEYS: a wrapped key. ARGV: what must stand there, what shall.
_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class RedisKeyStore:
    """The `cloister_common.vault.KeyStore` over Redis. A write that returned is on disk (``appendfsync always``)."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sharded = is_cluster(redis)
        self._replace_script = redis.register_script(_REPLACE)

    async def get(self, name: str) -> bytes | None:
        return cast("bytes | None", await self._redis.get(self._key(name)))

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return bool(await self._redis.set(self._key(name), wrapped, nx=True))

    async def replace(self, name: str, expected: bytes, wrapped: bytes) -> bool:
        return bool(await self._replace_script(keys=[self._key(name)], args=[expected, wrapped]))

    async def delete(self, name: str) -> None:
        await self._redis.delete(self._key(name))

    async def names(self, prefix: str) -> AsyncIterator[str]:
        # Names have no characters that mean something in a pattern.
        async for key in self._redis.scan_iter(match=self._key(f"{prefix}*"), count=_NAMES_A_STEP):
            yield wrapped_key_name(key.decode())

    def _key(self, name: str) -> str:
        return wrapped_key_key(name, sharded=self._sharded)
