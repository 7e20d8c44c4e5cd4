"""Everything of the gateway that lives as long as its process, built in one place and closed in reverse order."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import InternalTokens
from cloister_common.settings import read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.bus.announcements import Control
from cloister_gateway.bus.connection import Bus
from cloister_gateway.bus.forgetting import share_forgetting
from cloister_gateway.core import Core, build_core
from cloister_gateway.foundation import open_foundation
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.models import Catalog, ModelUpstream, open_upstream
from cloister_gateway.organization.service import Directory
from cloister_gateway.settings import EmbedderSettings, GatewaySettings, RetrieverSettings
from cloister_gateway.sockets.waiting import WaitingBytes
from cloister_gateway.storage.client import blocking_client, bus_connection
from cloister_gateway.usage import Meter

__all__ = ["Context", "open_context"]


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
    meter: Meter
    catalog: Catalog
    llm: ModelUpstream
    embedder: EmbedderClient
    retriever: RetrieverClient
    core: Core
    open_sockets: Counter[str]
    waiting_bytes: WaitingBytes


@asynccontextmanager
async def open_context(settings: GatewaySettings, meter: Meter) -> AsyncIterator[Context]:
    """Builds the context: secrets first, then Redis, then what needs it.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    async with AsyncExitStack() as stack:
        foundation = await stack.enter_async_context(open_foundation(settings))
        redis, keyring = foundation.redis, foundation.keyring
        redis_blocking = blocking_client(settings.redis)
        stack.push_async_callback(redis_blocking.aclose)

        catalog = Catalog.of(settings.models)
        llm_tokens = InternalTokens(read_secret_lines(settings.llm.token_file, what="the llm pods' token"))
        llm = await stack.enter_async_context(open_upstream(catalog, settings.llm, llm_tokens, keyring))
        embedder = _embedder(settings.embedder)
        stack.push_async_callback(embedder.close)
        retriever = _retriever(settings.retriever)
        stack.push_async_callback(retriever.close)

        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        llm.start(supervisor)
        bus = Bus(lambda: bus_connection(settings.redis), redis, supervisor)
        bus.start()
        control = Control(bus)
        share_forgetting(keyring, control)
        await control.start()
        identity_store = IdentityStore(redis, Seals(keyring))
        await identity_store.rights.adopt()
        directory = Directory(identity_store, foundation.peppers[0], control)
        authenticator = Authenticator(identity_store, foundation.peppers, control, supervisor)
        authenticator.start()
        stack.push_async_callback(authenticator.flush_usage)

        core = build_core(
            settings,
            redis=redis,
            keyring=keyring,
            bus=bus,
            control=control,
            supervisor=supervisor,
            meter=meter,
            catalog=catalog,
            llm=llm,
            embedder=embedder,
            retriever=retriever,
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
            meter=meter,
            catalog=catalog,
            llm=llm,
            embedder=embedder,
            retriever=retriever,
            core=core,
            open_sockets=Counter(),
            waiting_bytes=WaitingBytes(settings.responses.waiting_bytes_per_tenant),
        )


def _embedder(settings: EmbedderSettings) -> EmbedderClient:
    return EmbedderClient(
        settings.url,
        InternalTokens(read_secret_lines(settings.token_file, what="the embedder's token")),
        settings.tls,
        settings.attribution_model,
        deadline_seconds=settings.timeout_seconds,
    )


def _retriever(settings: RetrieverSettings) -> RetrieverClient:
    return RetrieverClient(
        settings.url,
        InternalTokens(read_secret_lines(settings.token_file, what="the retriever's token")),
        settings.tls,
        deadline_seconds=settings.timeout_seconds,
    )
