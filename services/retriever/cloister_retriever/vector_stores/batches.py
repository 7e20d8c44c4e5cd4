"""File batches: many files attached by one request, and watched as one."""

import time
from collections.abc import AsyncGenerator, Collection, Sequence

from cloister_common.ids import new_id
from cloister_common.payer import Payer
from cloister_common.vault import DataKey

from cloister_retriever.damage import damage_of
from cloister_retriever.identifiers import BATCH_PREFIX, check_id, missing, place_in
from cloister_retriever.pages import bounds_of, growing_steps
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.records import Attached, BatchMember, BatchRecord
from cloister_retriever.vector_stores.schemas import CreateBatch, FilesInStoreQuery
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["BatchService"]


class BatchService:
    """Batches of files in vector stores. Callers have opened the store, and so hold its key."""

    def __init__(self, store: VectorStoreStore, attachments: AttachmentService) -> None:
        self._store = store
        self._attachments = attachments

    async def create(
        self, tenant: str, store_id: str, key: DataKey, request: CreateBatch, payer: Payer | None = None
    ) -> tuple[BatchRecord, list[Attached]]:
        """Attaches every file of the request.

        Raises:
            NotFound: A file does not exist; then none is attached.
        """
        entries = request.entries()
        files = await self._attachments.known_files(tenant, entries)
        attached = await self._attachments.attach_all(tenant, store_id, key, entries, files, payer)
        record = BatchRecord(
            id=new_id(BATCH_PREFIX),
            store_id=store_id,
            created_at=int(time.time()),
            members=[BatchMember(file_id=one.record.file_id, attachment_id=one.record.id) for one in attached],
        )
        await self._store.put_batch(tenant, record, key)
        return record, attached

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
        return _members_of(record, await self._attachments.list(tenant, record.store_id, key))

    async def page(
        self,
        tenant: str,
        key: DataKey,
        record: BatchRecord,
        query: FilesInStoreQuery,
        *,
        hidden: Collection[str] = frozenset(),
    ) -> tuple[list[Attached], bool]:
        """One page of `files` without those ``hidden``, and whether there are more.

        Members are read as far as it takes.

        Raises:
            InvalidRequest: A cursor that names no member.
        """
        everywhere = await self._places(tenant, key, record)
        places = {file_id: place for file_id, place in everywhere.items() if file_id not in hidden}
        bounds = bounds_of(after=query.after, before=query.before, order=query.order, place_of=places.get)

        async def wanted() -> AsyncGenerator[Sequence[Attached]]:
            ordered = bounds.part(places, lambda file_id: (places[file_id], file_id))
            for part in growing_steps(ordered, query.limit + 1):
                files = _members_of(record, await self._attachments.get_some(tenant, record.store_id, key, part))
                there = {file.record.file_id: file for file in files if query.filter in {None, file.status}}
                yield [there[file_id] for file_id in part if file_id in there]

        return await bounds.gather(wanted(), query.limit)

    async def _places(self, tenant: str, key: DataKey, record: BatchRecord) -> dict[str, int]:
        """Where each member has, or had, its place in the list of the batch's files.

        Members of a batch of the version before do not say theirs: their attachments are read, if they are still there.
        """
        places = {member.file_id: place_in(member.attachment_id) for member in record.members}
        if None in places.values():
            places |= {file.record.file_id: file.record.place for file in await self.files(tenant, key, record)}
        return {file_id: place for file_id, place in places.items() if place is not None}

    async def cancel(self, tenant: str, key: DataKey, record: BatchRecord) -> None:
        """Cancels every ingestion of the batch that has not ended."""
        going = [file.record for file in await self.files(tenant, key, record) if file.status == "in_progress"]
        await self._attachments.cancel(tenant, key, going)


def _members_of(record: BatchRecord, files: Sequence[Attached]) -> list[Attached]:
    members = {member.file_id: member.attachment_id for member in record.members}
    # The empty id is that of an attachment that does not open.
    return [
        file
        for file in files
        if file.record.id in {members.get(file.record.file_id), ""} and file.record.file_id in members
    ]
