"""The composition root: everything that lives as long as the process, made here in one place, from the bottom up.

Nothing begins by being made. `_start` begins what runs on its own, in order; all of it is closed in reverse.
The command line needs a few parts of it only (`cloister_gateway.commands`).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

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
from cloister_gateway.batches.opening import BATCHES, open_batches
from cloister_gateway.batches.service import BatchService
from cloister_gateway.batches.store import BatchStore
from cloister_gateway.batches.worker import BatchWorker
from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.bus.connection import Bus
from cloister_gateway.bus.forgetting import share_forgetting
from cloister_gateway.bus.sharded import make_bus
from cloister_gateway.chat.service import ChatService
from cloister_gateway.clients import embedder_client, retriever_client
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.conversations.store import ConversationStore
from cloister_gateway.embeddings.service import EmbeddingService
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
from cloister_gateway.limits import Limits
from cloister_gateway.limits.administration import LimitAdministration
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.history import HistoryPolicies
from cloister_gateway.limits.reservations import Reservations
from cloister_gateway.models import Catalog, ModelUpstream, Registry, open_upstream
from cloister_gateway.models.adapters.placement import Placement
from cloister_gateway.models.adapters.service import Adapters
from cloister_gateway.models.adapters.store import AdapterStore
from cloister_gateway.models.following import follow_models
from cloister_gateway.models.rewriting import QueryRewriter
from cloister_gateway.models.store import CatalogStore
from cloister_gateway.organization.service import Directory
from cloister_gateway.responses.entrance import Entrance
from cloister_gateway.responses.idempotency import IdempotencyKeys
from cloister_gateway.responses.intake import Intake
from cloister_gateway.responses.reading import ResponseReader
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.acceptance import Acceptance
from cloister_gateway.runs.attached import AttachedFiles
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.inputs import InputItems
from cloister_gateway.runs.keeper import open_keeper
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.references import References
from cloister_gateway.runs.run import RunParts
from cloister_gateway.runs.sealing import ReasoningSeals
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.summaries import Summaries
from cloister_gateway.runs.turn import Turn
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.sockets.service import SocketService
from cloister_gateway.storage import ItemLog, Opened
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.streams.commits import Commits
from cloister_gateway.streams.events import EventStream
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.usage import Both, Meter, Metering
from cloister_gateway.usage.ingestions import Ingestions
from cloister_gateway.usage.ledger import Ledger
from cloister_gateway.usage.queries import UsageQueries
from cloister_gateway.usage.service import UsageService
from cloister_gateway.usage.standing import Standing
from cloister_gateway.usage.standing_store import StandingStore
from cloister_gateway.usage.store import UsageStore

__all__ = ["Context", "open_context"]


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
    rewriter: QueryRewriter
    limits: Limits
    limit_administration: LimitAdministration
    policies: HistoryPolicies
    ledger: Ledger
    standing: Standing
    ingestions: Ingestions
    usage: UsageService
    catalog: Catalog
    registry: Registry
    llm: ModelUpstream
    adapters: Adapters
    embedder: EmbedderClient
    retriever: RetrieverClient
    commits: Commits
    hub: Hub
    engine: Engine
    attached: AttachedFiles
    chat: ChatService
    embeddings: EmbeddingService
    conversations: ConversationService
    responses: ResponseService
    batches: BatchService
    batch_worker: BatchWorker
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
            self.rewriter,
            self.limits,
            self.limit_administration,
            self.policies,
            self.usage,
            self.catalog,
            self.registry,
            self.llm,
            self.adapters,
            self.embedder,
            self.retriever,
            self.attached,
            self.chat,
            self.embeddings,
            self.conversations,
            self.responses,
            self.batches,
            self.sockets,
            self.settings.responses,
            Origins(self.settings.browsers.origins),
        )


@asynccontextmanager
async def open_context(settings: GatewaySettings, meter: Meter | None = None) -> AsyncIterator[Context]:
    """Makes everything, secrets first, then Redis, then what needs it; and starts it.

    Args:
        settings: The settings file.
        meter: What stands behind every generation instead of the limits and the ledger.

    Raises:
        SettingsError: A secret is missing, or Redis is not there or not durable, or the root key is another than
            the one the stored keys were wrapped with.
    """
    async with AsyncExitStack() as stack:
        peppers = read_secret_lines(settings.identity.pepper_file, what="the pepper of the API keys")
        redis, keyring = await stack.enter_async_context(open_storage(settings.redis, settings.vault))
        tokens = InternalTokens(read_secret_lines(settings.llm.token_file, what="the llm pods' token"))
        catalog = Catalog.of(settings.models)
        admission = Admission(settings.admission, redis.ping)
        llm = await stack.enter_async_context(
            open_upstream(
                catalog,
                settings.llm,
                tokens,
                keyring,
                admission=settings.admission,
                resting=admission.resting,
                kubeconfig_file=settings.kubernetes.kubeconfig_file,
                redis=redis,
            )
        )
        embedder = embedder_client(settings.embedder)
        stack.push_async_callback(embedder.close)
        retriever = retriever_client(settings.retriever)
        stack.push_async_callback(retriever.close)
        retrieval = Retrieval(
            retriever, embedder, least_score=settings.retriever.least_score, most_pictures=settings.retriever.pictures
        )

        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        if settings.file is not None:
            supervisor.loop("models", partial(follow_models, settings.file, catalog))
        bus = make_bus(settings.redis, redis, supervisor)
        announcements = Announcements(bus)

        seals = Seals(keyring)
        identity = IdentityStore(redis, seals)
        await identity.rights.adopt()
        last_use = LastUse(identity.touch_keys)
        stack.push_async_callback(last_use.flush)
        authenticator = Authenticator([ApiKeyVerifier(identity, peppers)], announcements, last_use, supervisor)
        projects = Projects(identity, announcements)
        directory = Directory(projects, ApiKeys(identity, peppers[0], announcements))
        adapter_store = AdapterStore(redis, keyring)
        placement = Placement(catalog, llm.fleet, llm.adapters, adapter_store)
        adapters = Adapters(catalog, adapter_store, placement, projects, announcements)

        usage = UsageStore(redis, keyring, settings.usage)
        stored = StandingStore(redis, usage)
        standing = Standing(stored, catalog, llm.fleet, projects=directory.project_ids, kept=retriever.kept_bytes)
        ledger = Ledger(usage)
        stack.push_async_callback(ledger.flush)
        limits = Limits(
            settings.limits,
            Reservations(redis),
            partial(GrantedLimits, redis, keyring, announcements),
            keyring,
            running=lambda: {**engine.projects, **ingestions.running},
            lost=ledger.note_lost,
        )
        await limits.granted.load()
        stack.push_async_callback(limits.flush)
        ingestions = Ingestions(retriever, limits, ledger, stored)
        meter = meter or Both(limits, ledger)

        opened = Opened(settings.responses.history_bytes)
        items = ItemLog(redis, opened)
        stream = EventStream(redis)
        commits = Commits(stream, tick_seconds=settings.responses.flush_seconds)
        hub = Hub(stream, bus, supervisor)
        store = ResponseStore(redis, keyring)
        leases = Leases(redis)
        history = HistoryReader(store, items, keyring, opened)
        asked = settings.retriever
        rewriter = QueryRewriter(asked.rewrite_model, catalog, llm, seconds=asked.rewrite_seconds)
        reasoning = ReasoningSeals(keyring)
        policies = HistoryPolicies(settings.history, limits.granted)
        summaries = Summaries(models=catalog, upstream=llm, policies=policies, seals=reasoning, meter=meter)
        preparation = Preparation(
            models=catalog,
            upstream=llm,
            retrieval=retrieval,
            rewriter=rewriter,
            rewrites=asked.rewrite_turns,
            history=history,
            summaries=summaries,
        )
        turn = Turn(
            preparation=preparation, upstream=llm, retrieval=retrieval, store=store, seals=reasoning, pace=commits.pace
        )
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
        kept = settings.responses.keep_stream_seconds
        keeper = await stack.enter_async_context(
            open_keeper(settings.redis, leases.holder, supervisor, keep_seconds=kept)
        )
        engine = Engine(
            parts, admission=admission, keeper=keeper, hub=hub, announcements=announcements, supervisor=supervisor
        )
        stack.push_async_callback(engine.hand_over)

        attached = AttachedFiles(retriever)
        inputs = InputItems(References(store, items, keyring), reasoning, attached)
        conversations = ConversationService(ConversationStore(redis), items, keyring, engine, inputs)
        reader = ResponseReader(store, hub)
        idempotency = IdempotencyKeys(redis, keyring, seconds=settings.responses.idempotency_seconds)
        acceptance = Acceptance(redis, keyring, items, leases)
        entrance = Entrance(
            reader=reader,
            idempotency=idempotency,
            acceptance=acceptance,
            keyring=keyring,
            store=store,
            items=items,
            preparation=preparation,
            meter=meter,
            settings=settings.responses,
        )
        intake = Intake(
            reader=reader,
            idempotency=idempotency,
            acceptance=acceptance,
            entrance=entrance,
            store=store,
            engine=engine,
            preparation=preparation,
            history=history,
            inputs=inputs,
            models=catalog,
            meter=meter,
        )
        responses = ResponseService(store, hub, intake=intake, engine=engine, limits=limits)
        metering = Metering(meter)
        batches, batch_worker = open_batches(
            BatchStore(redis, keyring),
            Leases(redis, holder=leases.holder, of=BATCHES),
            chat=ChatService(catalog, llm, Metering(meter, batch=True), attached),
            embeddings=EmbeddingService(embedder, Metering(meter, batch=True), bulk=True),
            responses=responses,
            embedder=embedder,
            retriever=retriever,
            authenticator=authenticator,
            admission=admission,
            supervisor=supervisor,
            settings=settings.batches,
            most_line_bytes=settings.bodies.json_bytes,
        )
        stack.push_async_callback(batch_worker.hand_over)
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
            metering=metering,
            rewriter=rewriter,
            limits=limits,
            limit_administration=LimitAdministration(limits, catalog),
            policies=policies,
            ledger=ledger,
            standing=standing,
            ingestions=ingestions,
            usage=UsageService(UsageQueries(usage), stored, standing, directory, catalog, lambda: limits.settings),
            catalog=catalog,
            registry=Registry(catalog, CatalogStore(redis, keyring), announcements),
            llm=llm,
            adapters=adapters,
            embedder=embedder,
            retriever=retriever,
            commits=commits,
            hub=hub,
            engine=engine,
            attached=attached,
            chat=ChatService(catalog, llm, metering, attached),
            embeddings=EmbeddingService(embedder, metering),
            conversations=conversations,
            responses=responses,
            batches=batches,
            batch_worker=batch_worker,
            sockets=SocketService(
                responses, conversations, bus, admission, settings.responses, most_values=settings.bodies.json_values
            ),
        )
        await _start(context)
        yield context


async def _start(context: Context) -> None:
    """Begins what runs on its own, from the bottom up: what hears of others before what works for them."""
    context.bus.start()
    share_forgetting(context.keyring, context.announcements)
    await context.announcements.start()
    await context.registry.start(context.supervisor)
    context.llm.start(context.supervisor)
    await context.adapters.start(context.supervisor)
    context.authenticator.start()
    context.commits.start(context.supervisor)
    context.admission.start(context.supervisor)
    context.ledger.start(context.supervisor)
    context.supervisor.loop("usage-ingestions", context.ingestions.follow)
    context.supervisor.loop("usage-kept", context.standing.count_kept)
    context.supervisor.loop("usage-pods", context.standing.count_pods)
    context.limits.start(context.supervisor, context.settings.file)
    context.hub.start()
    context.engine.start()
    context.batch_worker.start()
