"""The rules for files in a vector store: attaching, listing, changing attributes, cancelling, detaching."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence

from cloister_common.errors import InvalidRequest, NotFound
from cloister_common.logs import get_logger
from cloister_common.payer import Payer
from cloister_common.vault import DataKey

from cloister_retriever.damage import damage_of, telling
from cloister_retriever.files.schemas import FileRecord, is_of_batches
from cloister_retriever.files.service import FileService
from cloister_retriever.identifiers import FILE_PREFIX, STORE_PREFIX, check_id, is_id, missing
from cloister_retriever.jobs.names import JobName
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.pages import bounds_of, growing_steps
from cloister_retriever.settings import Protection
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.attaching import Attaching, ChunkingPolicy, Place, is_described_anew
from cloister_retriever.vector_stores.progress import Following, Progress
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Outcome
from cloister_retriever.vector_stores.schemas import AttachFile, FilesInStoreQuery
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["AttachmentService"]

log = get_logger(__name__)


class AttachmentService:
    """Files in vector stores. Callers have opened the store, and so hold its key."""

    def __init__(
        self,
        store: VectorStoreStore,
        files: FileService,
        uses: FileUses,
        keys: PassageKeyring,
        queue: JobQueue,
        purges: Purges,
        chunking: ChunkingPolicy,
    ) -> None:
        self._store = store
        self._files = files
        self._uses = uses
        self._keys = keys
        self._queue = queue
        self._purges = purges
        self._attaching = Attaching(store, uses, queue, chunking)
        self._following = Following(store, queue)

    async def known_files(self, tenant: str, entries: Sequence[AttachFile]) -> dict[str, FileRecord]:
        """The records of the files named, by id. Asked before anything is written, so that a batch is all or nothing.

        Raises:
            NotFound: One does not exist.
            InvalidRequest: One holds requests of a batch, or their answers.
        """

        async def one(entry: AttachFile) -> FileRecord:
            record = await self._files.get(tenant, entry.file_id, param="file_id")
            if is_of_batches(record):
                raise InvalidRequest(
                    f"The file '{record.id}' has the purpose '{record.purpose}', and is no document. Upload what is to "
                    "be searched with the purpose 'assistants'.",
                    param="file_id",
                    code="invalid_purpose",
                )
            return record

        return {record.id: record for record in await each(one, entries)}

    async def attach_all(
        self,
        tenant: str,
        store_id: str,
        key: DataKey,
        entries: Sequence[AttachFile],
        files: Mapping[str, FileRecord],
        payer: Payer | None = None,
    ) -> list[Attached]:
        """Attaches every file, as `Attaching.attach` says; ingestion of all is durable when this returns."""
        place = Place(tenant, store_id, key, await self._protection(tenant, store_id, key), payer)
        return await self._attaching.attach(place, entries, files)

    async def attach(
        self, tenant: str, store_id: str, key: DataKey, entry: AttachFile, payer: Payer | None = None
    ) -> Attached:
        """Attaches one file.

        Raises:
            NotFound: The file does not exist.
        """
        files = await self.known_files(tenant, [entry])
        attached, *_ = await self.attach_all(tenant, store_id, key, [entry], files, payer)
        return attached

    async def progress(
        self, tenant: str, store_id: str, key: DataKey, files: Collection[Attached]
    ) -> dict[str, Progress]:
        """How far those of the files are that have not ended, by their attachment."""
        return await self._following.of(tenant, store_id, key, files)

    async def page(
        self,
        tenant: str,
        store_id: str,
        key: DataKey,
        query: FilesInStoreQuery,
        *,
        hidden: Collection[str] = frozenset(),
    ) -> tuple[list[Attached], bool]:
        """One page of the store's files without those ``hidden``, and whether there are more. Outcomes are read as far
        as it takes.

        Raises:
            InvalidRequest: A cursor that names no file of the store, nor one that was detached within the last hour.
        """
        every = await self._store.attachments(tenant, store_id, key)
        records = [record for record in every if record.file_id not in hidden]
        places = {record.file_id: record.place for record in records}
        cursors = [cursor for cursor in (query.after, query.before) if cursor is not None and cursor not in places]
        places |= await self.places_of_gone(tenant, store_id, key, cursors)
        bounds = bounds_of(after=query.after, before=query.before, order=query.order, place_of=places.get)

        async def wanted() -> AsyncGenerator[Sequence[Attached]]:
            ordered = bounds.part(records, lambda record: (record.place, record.file_id))
            for part in growing_steps(ordered, query.limit + 1):
                files = await self._store.with_outcomes(tenant, store_id, key, part)
                yield [file for file in files if query.filter in {None, file.status}]

        return await bounds.gather(wanted(), query.limit)

    async def get_some(self, tenant: str, store_id: str, key: DataKey, file_ids: Collection[str]) -> list[Attached]:
        """Those of the files that are in the store; for files that lie near each other in the list."""
        records = await self._store.some_attachments(tenant, store_id, key, file_ids)
        return await self._store.with_outcomes(tenant, store_id, key, records)

    async def ids(self, tenant: str, store_id: str, key: DataKey) -> dict[str, str]:
        """The attachment of every file of the store, by the file. Only what is new since the last time is read."""
        return {record.file_id: record.id for record in await self._store.attachments(tenant, store_id, key)}

    async def list(self, tenant: str, store_id: str, key: DataKey) -> list[Attached]:
        """Every file of the store with its status."""
        return await self._store.attached_files(tenant, store_id, key)

    async def places_of_gone(self, tenant: str, store_id: str, key: DataKey, file_ids: Sequence[str]) -> dict[str, int]:
        """Where those of the files that were detached within the last hour had their place in the list."""
        asked = [file_id for file_id in file_ids if is_id(FILE_PREFIX, file_id)]
        places = [await self._store.detached_place(tenant, store_id, file_id, key) for file_id in asked]
        return {file_id: place for file_id, place in zip(asked, places, strict=True) if place is not None}

    async def get(self, tenant: str, store_id: str, key: DataKey, file_id: str) -> Attached:
        """One file of the store.

        Raises:
            NotFound: It is not in this store.
        """
        found = await self._store.attached(tenant, store_id, check_id(FILE_PREFIX, file_id), key)
        if found is None:
            raise missing(FILE_PREFIX, file_id)
        return found

    async def get_many(self, tenant: str, store_id: str, key: DataKey, file_ids: Sequence[str]) -> dict[str, Attached]:
        """Those of the files that are in the store, by id."""

        async def one(file_id: str) -> Attached | None:
            return await self._store.attached(tenant, store_id, file_id, key)

        return {found.record.file_id: found for found in await each(one, file_ids) if found is not None}

    async def set_attributes(
        self,
        tenant: str,
        store_id: str,
        key: DataKey,
        file_id: str,
        attributes: dict[str, str | bool | int | float] | None,
        payer: Payer | None = None,
    ) -> Attached:
        """Replaces the file's attributes. Searches see them at once: they are not in the index. But for the description
        of a picture, which is what it is found by: with another one it is ingested again.

        Raises:
            NotFound: It is not in this store.
            Damaged: What is stored of it there does not open.
        """
        with damage_of("file", file_id):
            # Opened anew: what stands for a record that does not open must not take its place.
            await self._store.attachment(tenant, store_id, check_id(FILE_PREFIX, file_id), key)
        found = await self.get(tenant, store_id, key, file_id)
        if is_described_anew(found.record, attributes or {}):
            entry = AttachFile(file_id=file_id, attributes=attributes or {})
            return await self.attach(tenant, store_id, key, entry, payer)
        record = found.record.model_copy(update={"attributes": attributes or {}})
        await self._attaching.put(tenant, record, key)
        return Attached(record=record, outcome=found.outcome)

    async def cancel(self, tenant: str, key: DataKey, records: Sequence[AttachmentRecord]) -> None:
        """Cancels those ingestions of files of one store that have not ended; one that has keeps its outcome."""

        async def decide(record: AttachmentRecord) -> bool:
            outcome = Outcome(attachment_id=record.id, status="cancelled", finished_at=int(time.time()))
            return await self._store.decide(tenant, record, outcome, key)

        async def purge(record: AttachmentRecord) -> None:
            protection = await self._removed(tenant, key, record)
            await self._purges.run(await self._purges.plan(tenant, record.store_id, record.id, protection=protection))

        decided = zip(records, await each(decide, records), strict=True)
        # What has a job is left to it: whoever does that finds the outcome, and removes what was begun.
        jobs = {JobName.read(name).about for name in await self._queue.names()}
        await each(purge, [record for record, was_first in decided if was_first and record.id not in jobs])
        self._queue.wake()

    async def detach(self, tenant: str, store_id: str, key: DataKey, file_id: str) -> None:
        """Removes the file and its passages from the store; the file itself stays.

        Raises:
            NotFound: It is not in this store.
        """
        record = (await self.get(tenant, store_id, key, file_id)).record
        if not record.id:
            # It does not open, so which passages are its is not known. They are not served, and go with the store.
            await self._uses.forget(tenant, file_id, store_id)
            await self._store.delete_attachment(tenant, record)
            return
        protection = await self._removed(tenant, key, record)
        purge = await self._purges.plan(tenant, store_id, record.id, file_id=file_id, protection=protection)
        await self._store.note_detached(tenant, record, key)
        # The use first: whoever attaches the file anew, once the attachment is gone, notes it again.
        await self._uses.forget(tenant, file_id, store_id)
        await self._store.delete_attachment(tenant, record)
        await self._purges.run(purge)
        log.info("file_detached", file=file_id, store=store_id)

    async def text(self, tenant: str, store_id: str, key: DataKey, file_id: str) -> AsyncIterator[bytes]:
        """The text that was extracted from the file, in UTF-8.

        Raises:
            NotFound: It is not in this store, or has no text (yet).
            Damaged: The text does not open.
        """
        found = await self.get(tenant, store_id, key, file_id)
        keys = await self._keys.get(tenant, key, file_id)
        if found.status != "completed" or found.outcome is None or keys is None:
            raise NotFound(f"The file '{file_id}' has no text: its status is {found.status}.", code="no_content")
        text = self._store.read_text(tenant, found.record, keys.texts, size=found.outcome.text_bytes)
        return telling("text of the file", file_id, text)

    async def _protection(self, tenant: str, store_id: str, key: DataKey) -> Protection:
        """What is attached now gets this one."""
        with damage_of("vector store", store_id):
            record = await self._store.get(tenant, store_id)
        if record is None:
            raise missing(STORE_PREFIX, store_id)
        outgrown = record.protection == "sealed" and await self._store.has_outgrown(tenant, store_id, key)
        return "standard" if outgrown else record.protection

    async def _removed(self, tenant: str, key: DataKey, record: AttachmentRecord) -> Protection | None:
        """Where the passages of an attachment are that goes; None if they may be in both indexes."""
        outgrown = record.protection == "sealed" and await self._store.has_outgrown(tenant, record.store_id, key)
        return None if outgrown else record.protection
