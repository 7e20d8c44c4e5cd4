"""Puts together what batches are made of: the composition root says only from what."""

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.supervisor import Supervisor

from cloister_gateway.admission import Admission
from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.batches.answering import LineAnswers
from cloister_gateway.batches.endpoints import ChatLines, EmbeddingLines, Endpoint, ResponseLines
from cloister_gateway.batches.files import ResultFiles
from cloister_gateway.batches.run import BatchParts
from cloister_gateway.batches.service import BatchService
from cloister_gateway.batches.store import BatchStore
from cloister_gateway.batches.worker import BatchWorker
from cloister_gateway.chat.service import ChatService
from cloister_gateway.embeddings.service import EmbeddingService
from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.lease import Leased, Leases
from cloister_gateway.storage.layout import BATCH, BATCHES_ACTIVE, BATCHES_ENDED

__all__ = ["BATCHES", "open_batches"]

BATCHES = Leased(BATCH, BATCHES_ACTIVE, BATCHES_ENDED)
"""What the leases of batches are."""


def open_batches(
    store: BatchStore,
    leases: Leases,
    *,
    chat: ChatService,
    embeddings: EmbeddingService,
    responses: ResponseService,
    embedder: EmbedderClient,
    retriever: RetrieverClient,
    authenticator: Authenticator,
    admission: Admission,
    supervisor: Supervisor,
    settings: BatchSettings,
    most_line_bytes: int,
) -> tuple[BatchService, BatchWorker]:
    """What routes ask, and what works. The services are those that count what they do as lines of batches."""
    endpoints: dict[str, Endpoint] = {
        "/v1/chat/completions": ChatLines(chat),
        "/v1/responses": ResponseLines(responses, admission, supervisor),
        "/v1/embeddings": EmbeddingLines(embeddings, admission),
    }
    parts = BatchParts(
        store=store,
        leases=leases,
        answers=LineAnswers(authenticator, admission, settings, most_line_bytes=most_line_bytes),
        files=ResultFiles(retriever, most_line_bytes=most_line_bytes),
        endpoints=endpoints,
        retriever=retriever,
        embedder=embedder,
        settings=settings,
        most_line_bytes=most_line_bytes,
    )
    worker = BatchWorker(parts, supervisor)
    return BatchService(store, worker, endpoints, retriever, settings), worker
