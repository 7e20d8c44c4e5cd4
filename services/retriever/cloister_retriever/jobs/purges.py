"""Removing passages from their index: tried at once, and durable when the index is not there."""

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger

from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.settings import Protection

__all__ = ["Purges"]

log = get_logger(__name__)


class Purges:
    """Plans a removal (durable from then on), then runs it; what does not work now a worker does later."""

    def __init__(self, queue: JobQueue, indexes: Indexes) -> None:
        self._queue = queue
        self._indexes = indexes

    async def plan(
        self,
        tenant: str,
        store_id: str,
        attachment_id: str | None = None,
        *,
        file_id: str | None = None,
        protection: Protection | None = None,
    ) -> Job:
        """Makes a removal durable: of an attachment's passages, of an attachment (of the file named), or of a store.

        From here on a worker finishes it, records included, should this process die.
        """
        return await self._queue.put(
            "purge", tenant, store_id, file_id=file_id, attachment_id=attachment_id, protection=protection
        )

    async def run(self, job: Job) -> None:
        """Removes the passages now, if the index is there. They are not served any more in either case."""
        try:
            await self._indexes.delete(
                job.tenant, job.store_id, job.attachment_id, protection=job.protection, edition=job.edition
            )
        except Unavailable:
            self.leave(job)
            return
        await self._queue.drop(job)

    def leave(self, job: Job) -> None:
        """Lets a worker do it."""
        log.warning("purge_left_to_workers", job=job.name)
        self._queue.wake()
