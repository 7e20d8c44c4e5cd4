"""What everything of the gateway stands on, and all that administering keys needs: secrets, Redis, the keyring.

Apart from `cloister_gateway.context`, so that the command line starts without what only serving needs.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from cloister_common.settings import SettingsError, read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import FileRootKey, Keyring, VaultError
from redis.asyncio import Redis

from cloister_gateway.bus.announcements import Control
from cloister_gateway.bus.connection import Bus
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.organization.service import Directory
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage.client import bus_connection, check_durability, command_client, wait_for_redis
from cloister_gateway.storage.keys import RedisKeyStore

__all__ = ["Foundation", "open_directory", "open_foundation"]


class Foundation(NamedTuple):
    """Redis, checked; the keyring over it; the peppers of the API keys."""

    redis: Redis
    keyring: Keyring
    peppers: list[bytes]


@asynccontextmanager
async def open_foundation(settings: GatewaySettings) -> AsyncIterator[Foundation]:
    """Opens the store: secrets first, then Redis, then the keys in it.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    root = FileRootKey(settings.vault.root_key_file)
    peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
    redis = command_client(settings.redis)
    try:
        await wait_for_redis(redis, settings.redis)
        await check_durability(redis, settings.redis)
        yield Foundation(redis, await _open_keyring(root, redis, settings), peppers)
    finally:
        await redis.aclose()


@asynccontextmanager
async def open_directory(settings: GatewaySettings) -> AsyncIterator[Directory]:
    """Only what administers keys, for the command line: no service behind the gateway needs to be there.

    Raises:
        SettingsError: As `open_foundation`.
    """
    async with open_foundation(settings) as foundation:
        # Never started: it only tells the gateways that serve.
        bus = Bus(lambda: bus_connection(settings.redis), foundation.redis, Supervisor())
        store = IdentityStore(foundation.redis, Seals(foundation.keyring))
        await store.rights.adopt()
        yield Directory(store, foundation.peppers[0], Control(bus))


async def _open_keyring(root: FileRootKey, redis: Redis, settings: GatewaySettings) -> Keyring:
    keyring = Keyring("gateway", root, RedisKeyStore(redis))
    try:
        await keyring.check()
    except VaultError as error:
        raise SettingsError(
            f"The root key in {settings.vault.root_key_file} is not the one that sealed what this Redis holds. "
            "Restore that key: without it nothing stored can be read."
        ) from error
    return keyring
