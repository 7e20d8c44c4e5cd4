"""The rules for a store's editions: which may be begun, searched and given up, and when.

Every decision is one state of the store's log (`cloister_retriever.storage.editions`), so of two that are made at the
same moment one is refused. What follows from it is a job, durable before the decision.
"""

from collections.abc import Sequence

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger

from cloister_retriever.editions import Edition, Place
from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.reembedding.schemas import FileProgress, Reembed, Reembedding
from cloister_retriever.storage.editions import Editions
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.models import EmbeddingModels
from cloister_retriever.vector_stores.records import Attached
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService
from cloister_retriever.vector_stores.terms import Words

__all__ = ["ReembeddingService"]

log = get_logger(__name__)


class ReembeddingService:
    """The editions of the vector stores of all tenants."""

    def __init__(
        self,
        stores: VectorStoreService,
        attachments: AttachmentService,
        words: Words,
        queue: JobQueue,
        models: EmbeddingModels,
    ) -> None:
        self._stores = stores
        self._attachments = attachments
        self._words = words
        self._queue = queue
        self._models = models

    async def look(self, tenant: str, store_id: str) -> Reembedding:
        """Where a store is with it.

        Raises:
            NotFound: The store is unknown, or another tenant's.
        """
        opened = await self._stores.get(tenant, store_id)
        return await self._described(tenant, opened, await self._stores.editions(tenant, opened))

    async def begin(self, tenant: str, store_id: str, request: Reembed) -> Reembedding:
        """Begins an edition beside the one that is searched.

        Raises:
            NotFound: The store is unknown, or the embedder does not serve the model.
            Conflict: There is an edition beside already.
            Unavailable: The embedder does not answer.
        """
        opened = await self._stores.get(tenant, store_id)
        before = await self._stores.editions(tenant, opened)
        if before.beside is not None:
            raise Conflict(
                f"The vector store '{store_id}' has a second edition already. DELETE /cloister/v1/vector_stores/"
                f"{store_id}/reembed gives up the one that is not searched; then begin again.",
                code="reembedding_exists",
            )
        model = request.model or self._models.default
        await self._models.require(model)
        after = before.begun(model, request.switch)
        job = await self._queue.put("reembed", tenant, store_id, edition=after.beside)
        editions = await self._change(tenant, opened, before, after, job)
        log.info("reembedding_begun", store=store_id, edition=before.number + 1)
        return await self._described(tenant, opened, editions)

    async def switch(self, tenant: str, store_id: str, *, back: bool) -> Reembedding:
        """Has the store searched in its later edition, or ``back`` in the earlier one.

        At once where that has every file; else as soon as it has, and searches answer from the other one until then.

        Raises:
            NotFound: The store is unknown.
            Conflict: It has no second edition, that is not ready, or is searched already.
        """
        opened = await self._stores.get(tenant, store_id)
        editions = await self._stores.editions(tenant, opened)
        beside = editions.beside
        if beside is None or not editions.ready or (beside.number < editions.serving.number) != back:
            raise Conflict(
                f"The vector store '{store_id}' has no {'earlier' if back else 'later'} edition that could be searched "
                f"instead. GET /cloister/v1/vector_stores/{store_id}/reembed says what it has.",
                code="reembedding_not_ready",
            )
        # Whatever was attached meanwhile is brought over by this, before the switch and after it.
        job = await self._queue.put("reembed", tenant, store_id, edition=beside, switch=True)
        if not await self.missing(tenant, opened, beside):
            editions = await self._change(tenant, opened, editions, editions.switched(), job)
            log.info("reembedding_switched", store=store_id, edition=beside.number)
        self._queue.wake()
        return await self._described(tenant, opened, editions)

    async def give_up(self, tenant: str, store_id: str) -> Reembedding:
        """Gives up the edition that is not searched. Nothing of it stays.

        Raises:
            NotFound: The store is unknown.
            Conflict: There is none, or it still has a file that the other one lacks.
        """
        opened = await self._stores.get(tenant, store_id)
        editions = await self._stores.editions(tenant, opened)
        if editions.beside is None:
            raise Conflict(f"The vector store '{store_id}' has no second edition.", code="reembedding_not_there")
        was_filled = editions.beside.number < editions.serving.number
        if was_filled and await self.missing(tenant, opened, editions.serving):
            raise Conflict(
                "Files that were attached during the switch are still being brought over. Try again in a moment.",
                code="reembedding_not_ready",
            )
        job = await self._queue.put("prune", tenant, store_id, edition=editions.beside)
        editions = await self._change(tenant, opened, editions, editions.ended(), job)
        log.info("reembedding_given_up", store=store_id)
        return await self._described(tenant, opened, editions)

    async def missing(self, tenant: str, opened: OpenStore, edition: Edition) -> list[Attached]:
        """The completed files that an edition lacks."""
        # The files first: what is completed after that is seen the next time.
        files = await self._completed(tenant, opened)
        there = await self._there(tenant, opened, edition)
        return [file for file in files if file.record.id not in there]

    async def _completed(self, tenant: str, opened: OpenStore) -> Sequence[Attached]:
        files = await self._attachments.list(tenant, opened.record.id, opened.key)
        return [file for file in files if file.status == "completed"]

    async def _change(self, tenant: str, opened: OpenStore, before: Editions, after: Editions, job: Job) -> Editions:
        """Makes the decision for which the job is there; without it the job goes."""
        try:
            changed = await self._stores.change_editions(tenant, opened, before, after)
        except Conflict:
            await self._queue.drop(job)
            raise
        self._queue.wake()
        return changed

    async def _described(self, tenant: str, opened: OpenStore, editions: Editions) -> Reembedding:
        progress = None
        if editions.beside is not None:
            completed = await self._completed(tenant, opened)
            there = await self._there(tenant, opened, editions.beside)
            done = sum(file.record.id in there for file in completed)
            progress = FileProgress(total=len(completed), completed=done)
        return Reembedding.of(opened.record.id, editions, progress)

    async def _there(self, tenant: str, opened: OpenStore, edition: Edition) -> set[str]:
        return await self._words.there(tenant, Place(opened.record.id, edition.number))
