"""The composition root: everything that lives as long as the process, made here in one place, from the bottom up.

Nothing begins by being made. `_start` begins what runs on its own, in order; all of it is closed in reverse.
The command line needs a few parts of it only (`cloister_gateway.commands`).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cloister_common.access import Services
from cloister_common.browsers import Origins
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import InternalTokens
from cloister_common.settings import read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.admission import Admission
from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.bus.connection import Bus
from cloister_gateway.bus.forgetting import share_forgetting
from cloister_gateway.bus.sharded import make_bus
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.conversations.store import ConversationStore
from cloister_gateway.grounding.search import Retrieval
from cloister_gateway.identity.api_keys import ApiKeyVerifier
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.keys import ApiKeys
from cloister_gateway.identity.last_use import LastUse
from cloister_gateway.identity.projects import Projects
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.identity.ticket_store import TicketStore
from cloister_gateway.identity.tickets import Tickets
from cloister_gateway.models import Catalog, ModelUpstream, open_upstream
from cloister_gateway.organization.service import Directory
from cloister_gateway.responses.idempotency import IdempotencyKeys
from cloister_gateway.responses.intake import Intake
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.acceptance import Acceptance
from cloister_gateway.runs.attached import AttachedFiles
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.inputs import InputItems
from cloister_gateway.runs.keeper import Keeper
from cloister_gateway.runs.lease import RENEW_SECONDS, Leases
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.references import References
from cloister_gateway.runs.run import RunParts
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.turn import Turn
from cloister_gateway.settings import EmbedderSettings, GatewaySettings, RedisSettings, RetrieverSettings
from cloister_gateway.sockets.service import SocketService
from cloister_gateway.storage import ItemLog, Opened
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.streams.commits import Commits
from cloister_gateway.streams.events import EventStream
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.usage import Meter, Metering

__all__ = ["Context", "open_context"]


_RENEWING_CONNECTIONS = 4
"""Of the client that renews leases: one is enough, but for when it is cut."""


@dataclass(frozen=True, slots=True)
class Context:
    """What lives as long as the process. Routes see of it what `services` provides, and the readiness checks all."""

    settings: GatewaySettings
    supervisor: Supervisor
    redis: Redis
    keyring: Keyring
    bus: Bus
    announcements: Announcements
    authenticator: Authenticator
    tickets: Tickets
    admission: Admission
    directory: Directory
    metering: Metering
    catalog: Catalog
    llm: ModelUpstream
    embedder: EmbedderClient
    retriever: RetrieverClient
    commits: Commits
    hub: Hub
    engine: Engine
    conversations: ConversationService
    responses: ResponseService
    sockets: SocketService

    @property
    def services(self) -> Services:
        """What the guard, routes and sockets may ask for."""
        return Services(
            self.authenticator,
            self.tickets,
            self.admission,
            self.directory,
            self.metering,
            self.catalog,
            self.llm,
            self.embedder,
            self.retriever,
            self.conversations,
            self.responses,
            self.sockets,
            self.settings.responses,
            Origins(self.settings.browsers.origins),
        )


@asynccontextmanager
async def open_context(settings: GatewaySettings, meter: Meter) -> AsyncIterator[Context]:
    """Makes everything, secrets first, then Redis, then what needs it; and starts it.

    Args:
        settings: The settings file.
        meter: What stands behind every generation.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    async with AsyncExitStack() as stack:
        peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
        redis, keyring = await stack.enter_async_context(open_storage(settings.redis, settings.vault))
        tokens = InternalTokens(read_secret_lines(settings.llm.token_file, what="the llm pods' token"))
        catalog = Catalog.of(settings.models)
        llm = await stack.enter_async_context(open_upstream(catalog, settings.llm, tokens, keyring))
        embedder = _embedder(settings.embedder)
        stack.push_async_callback(embedder.close)
        retriever = _retriever(settings.retriever)
        stack.push_async_callback(retriever.close)
        retrieval = Retrieval(retriever, embedder, least_score=settings.retriever.least_score)

        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        bus = make_bus(settings.redis, redis, supervisor)
        announcements = Announcements(bus)

        seals = Seals(keyring)
        identity = IdentityStore(redis, seals)
        await identity.rights.adopt()
        last_use = LastUse(identity.touch_keys)
        stack.push_async_callback(last_use.flush)
        authenticator = Authenticator([ApiKeyVerifier(identity, peppers)], announcements, last_use, supervisor)
        directory = Directory(Projects(identity, announcements), ApiKeys(identity, peppers[0], announcements))

        admission = Admission(settings.admission, redis.ping)

        opened = Opened(settings.responses.history_bytes)
        items = ItemLog(redis, opened)
        stream = EventStream(redis)
        commits = Commits(stream, tick_seconds=settings.responses.flush_seconds)
        hub = Hub(stream, bus, supervisor)
        store = ResponseStore(redis, keyring)
        leases = Leases(redis)
        history = HistoryReader(store, items, keyring, opened)
        preparation = Preparation(models=catalog, upstream=llm, retrieval=retrieval, history=history)
        reasoning = ReasoningSeals(keyring)
        turn = Turn(preparation=preparation, upstream=llm, retrieval=retrieval, store=store, seals=reasoning)
        parts = RunParts(
            stream=stream,
            commits=commits,
            leases=leases,
            store=store,
            items=items,
            turn=turn,
            settings=settings.responses,
            bus=bus,
            meter=meter,
        )
        renewing = command_client(_renewing(settings.redis))
        stack.push_async_callback(renewing.aclose)
        keeper = Keeper(
            Leases(renewing, holder=leases.holder),
            EventStream(renewing),
            supervisor,
            keep_seconds=settings.responses.keep_stream_seconds,
        )
        engine = Engine(
            parts, admission=admission, keeper=keeper, hub=hub, announcements=announcements, supervisor=supervisor
        )
        stack.push_async_callback(engine.hand_over)

        inputs = InputItems(References(store, items, keyring), reasoning, AttachedFiles(retriever))
        conversations = ConversationService(ConversationStore(redis), items, keyring, engine, inputs)
        intake = Intake(
            reader=ResponseReader(store, hub),
            idempotency=IdempotencyKeys(redis, keyring, seconds=settings.responses.idempotency_seconds),
            acceptance=Acceptance(redis, keyring, items, leases),
            keyring=keyring,
            store=store,
            items=items,
            engine=engine,
            preparation=preparation,
            history=history,
            inputs=inputs,
            models=catalog,
            meter=meter,
            settings=settings.responses,
        )
        responses = ResponseService(store, hub, intake=intake, engine=engine)
        context = Context(
            settings=settings,
            supervisor=supervisor,
            redis=redis,
            keyring=keyring,
            bus=bus,
            announcements=announcements,
            authenticator=authenticator,
            tickets=Tickets(TicketStore(redis, seals), authenticator),
            admission=admission,
            directory=directory,
            metering=Metering(meter),
            catalog=catalog,
            llm=llm,
            embedder=embedder,
            retriever=retriever,
            commits=commits,
            hub=hub,
            engine=engine,
            conversations=conversations,
            responses=responses,
            sockets=SocketService(
                responses,
                conversations,
                bus,
                admission,
                settings.responses,
                most_values=settings.bodies.json_values,
            ),
        )
        await _start(context)
        yield context


async def _start(context: Context) -> None:
    """Begins what runs on its own, from the bottom up: what hears of others before what works for them."""
    context.bus.start()
    share_forgetting(context.keyring, context.announcements)
    await context.announcements.start()
    context.llm.start(context.supervisor)
    context.authenticator.start()
    context.commits.start(context.supervisor)
    context.admission.start(context.supervisor)
    context.hub.start()
    context.engine.start()


def _renewing(settings: RedisSettings) -> RedisSettings:
    """The settings of the client that renews leases. In a cluster a node that does not answer must not hold up the
    renewals at others until their leases are over."""
    changed: dict[str, object] = {"connections": _RENEWING_CONNECTIONS}
    if settings.cluster is not None:
        shortest = max(RENEW_SECONDS, 2 * settings.wait_milliseconds / 1000 if settings.replicas_to_wait else 0.0)
        changed["timeout_seconds"] = min(settings.timeout_seconds, shortest)
    return settings.model_copy(update=changed)


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
