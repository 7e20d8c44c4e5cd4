"""Removes passages: those nobody wants any more, and those that an attempt left where they do not belong."""

from cloister_retriever.editions import Place
from cloister_retriever.jobs.queue import Job
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.ingestions import IngestionService
from cloister_retriever.vector_stores.terms import Words

__all__ = ["Clearing"]


class Clearing:
    """Removes what was indexed of attachments.

    Args:
        ingestions: Knows the attachments.
        indexes: Hold the passages.
        words: Hold their words.
    """

    def __init__(self, ingestions: IngestionService, indexes: Indexes, words: Words) -> None:
        self._ingestions = ingestions
        self._indexes = indexes
        self._words = words

    async def purge(self, job: Job) -> None:
        """Removes passages, after the records above them: who planned this may have died before they were gone."""
        if job.attachment_id is None:
            await self._ingestions.remove_store(job.tenant, job.store_id)
        elif (
            job.file_id is not None
            and (ingestion := await self._ingestions.find(job.tenant, job.store_id, job.file_id, job.attachment_id))
            is not None
        ):
            await self._ingestions.remove(ingestion)
        await self._indexes.delete(job.tenant, job.store_id, job.attachment_id, protection=job.protection)

    async def remove(
        self, tenant: str, store_id: str, attachment_id: str | None, protection: Protection | None
    ) -> None:
        """Removes passages that were begun under a protection from where they may be."""
        removed = await self._ingestions.removed(tenant, store_id, protection)
        await self._indexes.delete(tenant, store_id, attachment_id, protection=removed)

    async def replaced(self, job: Job) -> None:
        """Removes what the attachment left that this job's replaced, unless that is still the file's attachment."""
        assert job.file_id is not None
        if job.replaces is None:
            return
        if await self._ingestions.is_current(job.tenant, job.store_id, job.file_id, job.replaces) is False:
            await self.remove(job.tenant, job.store_id, job.replaces, job.protection)
            await self._ingestions.clear(job.tenant, job.store_id, job.replaces)

    async def edition(self, job: Job, attachment_id: str) -> None:
        """Removes what was written into a later edition of a store that was deleted in that moment: nothing else knows
        of its editions any more."""
        if job.edition is not None:
            removed = await self._ingestions.removed(job.tenant, job.store_id, job.protection)
            await self._indexes.delete(job.tenant, job.store_id, attachment_id, protection=removed, edition=job.edition)
            await self._words.remove(job.tenant, Place(job.store_id, job.edition.number), attachment_id)
