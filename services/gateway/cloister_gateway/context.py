"""Everything of the gateway that lives as long as its process, built in one place and closed in reverse order."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import httpx
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.settings import SettingsError, read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import FileRootKey, Keyring, VaultError
from redis.asyncio import Redis

from cloister_gateway.bus import Bus
from cloister_gateway.control import Control
from cloister_gateway.core import Core, build_core
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.directory import Directory
from cloister_gateway.identity.names import Names
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

__all__ = ["Context", "Service", "open_context", "open_directory"]


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
    directory: Directory
    llm: ModelUpstream
    embedder: Service
    retriever: Service
    core: Core
    open_sockets: Counter[str]


@asynccontextmanager
async def open_context(settings: GatewaySettings) -> AsyncIterator[Context]:
    """Builds the context: secrets first, then Redis, then what needs it.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_open_store(settings))
        redis, keyring = store.redis, store.keyring
        redis_blocking = blocking_client(settings.redis)
        stack.push_async_callback(redis_blocking.aclose)

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
        identity_store = IdentityStore(redis, Names(keyring))
        directory = Directory(identity_store, store.peppers[0], control)
        authenticator = Authenticator(identity_store, store.peppers, control, supervisor)
        authenticator.start()
        stack.push_async_callback(authenticator.flush_usage)

        core = build_core(
            settings,
            redis=redis,
            keyring=keyring,
            bus=bus,
            control=control,
            supervisor=supervisor,
            llm=llm,
            embedder=_attribution_client(settings.embedder, embedder, stack),
            retriever=_search_client(settings.retriever, retriever, stack),
        )
        stack.push_async_callback(core.engine.hand_over)
        yield Context(
            settings=settings,
            supervisor=supervisor,
            redis=redis,
            redis_blocking=redis_blocking,
            bus=bus,
            control=control,
            keyring=keyring,
            authenticator=authenticator,
            directory=directory,
            llm=llm,
            embedder=embedder,
            retriever=retriever,
            core=core,
            open_sockets=Counter(),
        )


@asynccontextmanager
async def open_directory(settings: GatewaySettings) -> AsyncIterator[Directory]:
    """Only what administers keys, for the command line: no service behind the gateway needs to be there.

    Raises:
        SettingsError: As `open_context`.
    """
    async with _open_store(settings) as store:
        # Never started: it only tells the gateways that serve.
        bus = Bus(lambda: bus_connection(settings.redis), store.redis, Supervisor())
        yield Directory(IdentityStore(store.redis, Names(store.keyring)), store.peppers[0], Control(bus))


class _Store(NamedTuple):
    redis: Redis
    keyring: Keyring
    peppers: list[bytes]


@asynccontextmanager
async def _open_store(settings: GatewaySettings) -> AsyncIterator[_Store]:
    root = FileRootKey(settings.vault.root_key_file)
    peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
    redis = command_client(settings.redis)
    try:
        await wait_for_redis(redis, settings.redis)
        await check_durability(redis, settings.redis)
        yield _Store(redis, await _open_keyring(root, redis, settings), peppers)
    finally:
        await redis.aclose()


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


def _attribution_client(settings: EmbedderSettings, service: Service, stack: AsyncExitStack) -> EmbedderClient | None:
    if settings.attribution_model is None:
        return None
    client = EmbedderClient(settings.url, service.tokens, settings.tls, settings.attribution_model)
    stack.push_async_callback(client.close)
    return client


def _search_client(settings: RetrieverSettings, service: Service, stack: AsyncExitStack) -> RetrieverClient:
    client = RetrieverClient(settings.url, service.tokens, settings.tls, deadline_seconds=settings.timeout_seconds)
    stack.push_async_callback(client.close)
    return client
