"""The core's composition: stored state, runs and their streams, and the services the routes call."""

from dataclasses import dataclass

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.bus.announcements import Control
from cloister_gateway.bus.connection import Bus
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.conversations.store import ConversationStore
from cloister_gateway.grounding.search import Retrieval
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.responses.idempotency import IdempotencyKeys
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.history import HistoryReader
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.preparation import Preparation
from cloister_gateway.runs.run import RunParts
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.runs.turn import Turn
from cloister_gateway.settings import GatewaySettings
from cloister_gateway.storage import ItemLog
from cloister_gateway.streams.events import EventStream
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.usage import Meter

__all__ = ["Core", "build_core"]


@dataclass(frozen=True, slots=True)
class Core:
    """What the routes of responses, conversations and sockets use."""

    responses: ResponseService
    conversations: ConversationService
    engine: Engine
    hub: Hub
    bus: Bus


def build_core(
    settings: GatewaySettings,
    *,
    redis: Redis,
    keyring: Keyring,
    bus: Bus,
    control: Control,
    supervisor: Supervisor,
    meter: Meter,
    catalog: Catalog,
    llm: ModelUpstream,
    embedder: EmbedderClient,
    retriever: RetrieverClient,
) -> Core:
    """Puts the core together. Background work starts with the supervisor."""
    items = ItemLog(redis)
    store = ResponseStore(redis, keyring)
    stream = EventStream(redis)
    leases = Leases(redis)
    hub = Hub(stream, bus, supervisor)
    retrieval = Retrieval(retriever, embedder)
    history = HistoryReader(store, items, keyring)
    preparation = Preparation(models=catalog, upstream=llm, retrieval=retrieval, history=history)
    turn = Turn(preparation=preparation, upstream=llm, retrieval=retrieval, store=store)
    parts = RunParts(
        stream=stream,
        leases=leases,
        store=store,
        items=items,
        work=turn,
        settings=settings.responses,
        bus=bus,
        meter=meter,
    )
    engine = Engine(parts, hub=hub, control=control, supervisor=supervisor, redis=redis)
    conversations = ConversationService(ConversationStore(redis), items, keyring)
    responses = ResponseService(
        idempotency=IdempotencyKeys(redis, keyring, seconds=settings.responses.idempotency_seconds),
        find_conversation=conversations.find,
        store=store,
        items=items,
        leases=leases,
        engine=engine,
        hub=hub,
        preparation=preparation,
        models=catalog,
        meter=meter,
        settings=settings.responses,
    )
    return Core(responses, conversations, engine, hub, bus)
