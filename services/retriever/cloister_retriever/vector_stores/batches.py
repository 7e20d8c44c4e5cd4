"""File batches: many files attached by one request, and watched as one."""

import time

from cloister_common.ids import new_id
from cloister_common.vault import DataKey

from cloister_retriever.damage import damage_of
from cloister_retriever.identifiers import BATCH_PREFIX, check_id, missing, place_in
from cloister_retriever.storage.objects import each
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.records import Attached, BatchMember, BatchRecord
from cloister_retriever.vector_stores.schemas import CreateBatch
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["BatchService"]


class BatchService:
    """Batches of files in vector stores. Callers have opened the store, and so hold its key."""

    def __init__(self, store: VectorStoreStore, attachments: AttachmentService) -> None:
        self._store = store
        self._attachments = attachments

    async def create(
        self, tenant: str, store_id: str, key: DataKey, request: CreateBatch
    ) -> tuple[BatchRecord, list[Attached]]:
        """Attaches every file of the request.

        Raises:
            NotFound: A file does not exist; then none is attached.
        """
        entries = request.entries()
        files = await self._attachments.known_files(tenant, entries)
        attached = await self._attachments.attach_all(tenant, store_id, key, entries, files)
        record = BatchRecord(
            id=new_id(BATCH_PREFIX),
            store_id=store_id,
            created_at=int(time.time()),
            members=[BatchMember(file_id=one.file_id, attachment_id=one.id) for one in attached],
        )
        await self._store.put_batch(tenant, record, key)
        return record, await self.files(tenant, key, record)

    async def get(self, tenant: str, store_id: str, key: DataKey, batch_id: str) -> BatchRecord:
        """The batch.

        Raises:
            NotFound: The store has no such batch.
            Damaged: It does not open.
        """
        with damage_of("file batch", check_id(BATCH_PREFIX, batch_id)):
            record = await self._store.batch(tenant, store_id, batch_id, key)
        if record is None:
            raise missing(BATCH_PREFIX, batch_id)
        return record

    async def files(self, tenant: str, key: DataKey, record: BatchRecord) -> list[Attached]:
        """The members that are still attached as this batch attached them, or are damaged, with their status."""
        members = {member.file_id: member.attachment_id for member in record.members}
        everything = await self._attachments.list(tenant, record.store_id, key)
        return [
            attached
            for attached in everything
            # The empty id is that of an attachment that does not open.
            if (file_id := attached.record.file_id) in members and attached.record.id in {members[file_id], ""}
        ]

    @staticmethod
    def places(record: BatchRecord) -> dict[str, int]:
        """Where each member has, or had, its place in the list of the batch's files."""
        places = ((member.file_id, place_in(member.attachment_id)) for member in record.members)
        return {file_id: place for file_id, place in places if place is not None}

    async def cancel(self, tenant: str, key: DataKey, record: BatchRecord) -> None:
        """Cancels every ingestion of the batch that has not ended."""

        async def one(attached: Attached) -> None:
            if attached.status == "in_progress":
                await self._attachments.cancel(tenant, key, attached.record)

        await each(one, await self.files(tenant, key, record))
