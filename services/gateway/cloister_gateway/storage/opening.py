"""Opens what everything stored stands on: the root key, a Redis that keeps what it takes, the keyring over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from cloister_common.settings import SettingsError
from cloister_common.vault import FileRootKey, Keyring, VaultError
from redis.asyncio import Redis

from cloister_gateway.settings import RedisSettings, VaultSettings
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.durability import check_durability, wait_for_redis
from cloister_gateway.storage.keys import RedisKeyStore

__all__ = ["Storage", "open_storage"]


class Storage(NamedTuple):
    """Redis, checked, and the keyring over it."""

    redis: Redis
    keyring: Keyring


@asynccontextmanager
async def open_storage(settings: RedisSettings, vault: VaultSettings) -> AsyncIterator[Storage]:
    """Opens the store: the root key first, then Redis, then the keys in it.

    Raises:
        SettingsError: The root key is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    root = FileRootKey(vault.root_key_file)
    redis = command_client(settings)
    try:
        await wait_for_redis(redis, settings)
        await check_durability(redis, settings)
        keyring = Keyring("gateway", root, RedisKeyStore(redis))
        try:
            await keyring.check()
        except VaultError as error:
            raise SettingsError(
                f"The root key in {vault.root_key_file} is not the one that sealed what this Redis holds. "
                "Restore that key: without it nothing stored can be read."
            ) from error
        yield Storage(redis, keyring)
    finally:
        await redis.aclose()
