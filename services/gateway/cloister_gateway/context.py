"""Everything of the gateway that lives as long as its process, built in one place and closed in reverse order."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.settings import SettingsError, read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import FileRootKey, Keyring, VaultError
from redis.asyncio import Redis

from cloister_gateway.bus import Bus
from cloister_gateway.control import Control
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.models import ModelUpstream, open_upstream
from cloister_gateway.redis_client import (
    blocking_client,
    bus_connection,
    check_durability,
    command_client,
    wait_for_redis,
)
from cloister_gateway.settings import EmbedderSettings, GatewaySettings, RetrieverSettings
from cloister_gateway.vault_store import RedisKeyStore

__all__ = ["Context", "Service", "open_context"]


@dataclass(frozen=True, slots=True)
class Service:
    """A service of ours behind the gateway: its client, and the tokens that it answers to."""

    client: httpx.AsyncClient
    tokens: InternalTokens

    def headers(self, tenant: str) -> dict[str, str]:
        """The headers of a call made for ``tenant``."""
        return self.tokens.headers(tenant)


@dataclass(frozen=True, slots=True)
class Context:
    """What routes and services share. Reached as ``app.state.context``."""

    settings: GatewaySettings
    supervisor: Supervisor
    redis: Redis
    redis_blocking: Redis
    bus: Bus
    control: Control
    keyring: Keyring
    authenticator: Authenticator
    llm: ModelUpstream
    embedder: Service
    retriever: Service


@asynccontextmanager
async def open_context(settings: GatewaySettings) -> AsyncIterator[Context]:
    """Builds the context: secrets first, then Redis, then what needs it.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    root = FileRootKey(settings.vault.root_key_file)
    peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
    async with AsyncExitStack() as stack:
        redis = command_client(settings.redis)
        stack.push_async_callback(redis.aclose)
        redis_blocking = blocking_client(settings.redis)
        stack.push_async_callback(redis_blocking.aclose)
        await wait_for_redis(redis, settings.redis)
        await check_durability(redis, settings.redis)
        keyring = await _open_keyring(root, redis, settings)

        llm_tokens = InternalTokens(read_secret_lines(settings.llm.token_file, what="the llm pods' token"))
        llm = await stack.enter_async_context(open_upstream(settings.models, settings.llm, llm_tokens, keyring))
        embedder = await stack.enter_async_context(_service(settings.embedder, what="the embedder's token"))
        retriever = await stack.enter_async_context(_service(settings.retriever, what="the retriever's token"))

        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        bus = Bus(lambda: bus_connection(settings.redis), redis, supervisor)
        bus.start()
        control = Control(bus)
        await control.start()
        authenticator = Authenticator(IdentityStore(redis), peppers, control, supervisor)
        authenticator.start()
        stack.push_async_callback(authenticator.flush_usage)

        yield Context(
            settings=settings,
            supervisor=supervisor,
            redis=redis,
            redis_blocking=redis_blocking,
            bus=bus,
            control=control,
            keyring=keyring,
            authenticator=authenticator,
            llm=llm,
            embedder=embedder,
            retriever=retriever,
        )


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


@asynccontextmanager
async def _service(settings: EmbedderSettings | RetrieverSettings, *, what: str) -> AsyncIterator[Service]:
    tokens = InternalTokens(read_secret_lines(settings.token_file, what=what))
    async with http_client(settings.url, tls=settings.tls, timeout_seconds=settings.timeout_seconds) as client:
        yield Service(client, tokens)
