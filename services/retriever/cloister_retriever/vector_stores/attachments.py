"""The rules for files in a vector store: attaching, listing, changing attributes, cancelling, detaching."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from functools import partial

from cloister_common.errors import NotFound
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey

from cloister_retriever.damage import damage_of, telling
from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.files.service import FileService
from cloister_retriever.identifiers import (
    ATTACHMENT_PREFIX,
    FILE_PREFIX,
    STORE_PREFIX,
    check_id,
    is_id,
    missing,
    new_placed_id,
)
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.pages import bounds_of, growing_steps
from cloister_retriever.settings import Protection
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Chunking, Outcome
from cloister_retriever.vector_stores.schemas import AttachFile, ChunkingStrategy, FilesInStoreQuery, StaticChunking
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["AttachmentService", "ChunkingPolicy"]

log = get_logger(__name__)


class ChunkingPolicy:
    """Which lengths are really used.

    Args:
        model_tokens: What the embedding model reads; no passage is longer.
        auto: The lengths of the ``auto`` strategy.
    """

    def __init__(self, *, model_tokens: int, auto: Chunking) -> None:
        self._model_tokens = model_tokens
        self._auto = auto

    def effective(self, asked: ChunkingStrategy | None) -> Chunking:
        """The lengths for what was asked: capped by the model, the overlap by half of that."""
        wanted = self._auto
        if isinstance(asked, StaticChunking):
            sizes = asked.static
            wanted = Chunking(max_tokens=sizes.max_chunk_size_tokens, overlap_tokens=sizes.chunk_overlap_tokens)
        longest = min(wanted.max_tokens, self._model_tokens)
        return Chunking(max_tokens=longest, overlap_tokens=min(wanted.overlap_tokens, longest // 2))


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
        self._chunking = chunking

    async def known_files(self, tenant: str, entries: Sequence[AttachFile]) -> dict[str, FileRecord]:
        """The records of the files named, by id. Asked before anything is written, so that a batch is all or nothing.

        Raises:
            NotFound: One does not exist.
        """

        async def one(entry: AttachFile) -> FileRecord:
            return await self._files.get(tenant, entry.file_id, param="file_id")

        return {record.id: record for record in await each(one, entries)}

    async def attach_all(
        self,
        tenant: str,
        store_id: str,
        key: DataKey,
        entries: Sequence[AttachFile],
        files: dict[str, FileRecord],
    ) -> list[AttachmentRecord]:
        """Attaches every file; ingestion of all is durable when this returns."""

        # In the list they have the order of the request, although they are attached at the same time.
        now = time.time_ns()
        protection = await self._protection(tenant, store_id)

        async def one(numbered: tuple[int, AttachFile]) -> AttachmentRecord:
            number, entry = numbered
            return await self._attach(tenant, store_id, key, entry, files[entry.file_id], protection, now + number)

        return await each(one, enumerate(entries))

    async def attach(self, tenant: str, store_id: str, key: DataKey, entry: AttachFile) -> Attached:
        """Attaches one file.

        A file that is in the store already stays as it is (with the attributes sent, if any), so that a repeated
        request does no harm; it is ingested again if its ingestion failed or other chunking is asked for.

        Raises:
            NotFound: The file does not exist.
        """
        files = await self.known_files(tenant, [entry])
        protection = await self._protection(tenant, store_id)
        record = await self._attach(tenant, store_id, key, entry, files[entry.file_id], protection, time.time_ns())
        return Attached(record=record, outcome=await self._store.outcome(tenant, store_id, record.id, key))

    async def page(
        self, tenant: str, store_id: str, key: DataKey, query: FilesInStoreQuery
    ) -> tuple[list[Attached], bool]:
        """One page of the store's files, and whether there are more. Outcomes are read as far as it takes.

        Raises:
            InvalidRequest: A cursor that names no file of the store, nor one that was detached within the last hour.
        """
        records = await self._store.attachments(tenant, store_id, key)
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
    ) -> Attached:
        """Replaces the file's attributes. Searches see them at once: they are not in the index.

        Raises:
            NotFound: It is not in this store.
            Damaged: What is stored of it there does not open.
        """
        with damage_of("file", file_id):
            # Opened anew: what stands for a record that does not open must not take its place.
            await self._store.attachment(tenant, store_id, check_id(FILE_PREFIX, file_id), key)
        found = await self.get(tenant, store_id, key, file_id)
        record = found.record.model_copy(update={"attributes": attributes or {}})
        await self._put(tenant, record, key)
        return Attached(record=record, outcome=found.outcome)

    async def cancel(self, tenant: str, key: DataKey, record: AttachmentRecord) -> None:
        """Cancels an ingestion that has not ended; one that has keeps its outcome."""
        outcome = Outcome(attachment_id=record.id, status="cancelled", finished_at=int(time.time()))
        if await self._store.decide(tenant, record, outcome, key):
            purge = await self._purges.plan(tenant, record.store_id, record.id, protection=record.protection)
            await self._purges.run(purge)

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
        purge = await self._purges.plan(tenant, store_id, record.id, file_id=file_id, protection=record.protection)
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

    async def _put(self, tenant: str, record: AttachmentRecord, key: DataKey) -> None:
        """Replaces the record of a file that is in the store.

        Raises:
            NotFound: It was detached in this moment; then it does not come back.
        """
        await self._store.put_attachment(tenant, record, key)
        if not await self._uses.is_noted(tenant, record.file_id, record.store_id):
            await self._store.delete_attachment(tenant, record)
            raise missing(FILE_PREFIX, record.file_id)

    async def _protection(self, tenant: str, store_id: str) -> Protection:
        """What the store has now, for what is attached now."""
        with damage_of("vector store", store_id):
            record = await self._store.get(tenant, store_id)
        if record is None:
            raise missing(STORE_PREFIX, store_id)
        return record.protection

    async def _attach(
        self,
        tenant: str,
        store_id: str,
        key: DataKey,
        entry: AttachFile,
        file: FileRecord,
        protection: Protection,
        now: int,
    ) -> AttachmentRecord:
        record = AttachmentRecord(
            id=new_placed_id(ATTACHMENT_PREFIX, now),
            store_id=store_id,
            file_id=file.id,
            file_name=file.name,
            created_at=now // 10**9,
            created_ns=now,
            attributes=entry.attributes or {},
            chunking=self._chunking.effective(entry.chunking_strategy),
            protection=protection,
        )
        before = await self._store.attached(tenant, store_id, file.id, key)
        if before is not None and not _ingest_again(before, entry, record.chunking):
            if entry.attributes is None:
                return before.record
            kept = before.record.model_copy(update={"attributes": entry.attributes})
            await self._put(tenant, kept, key)
            return kept
        await self._uses.note(tenant, file.id, store_id)
        # The marker first: a crash after it leaves a job without an attachment, which a worker drops.
        replaces = None if before is None else before.record.id or None
        put = partial(
            self._queue.put,
            *("ingest", tenant, store_id),
            file_id=file.id,
            attachment_id=record.id,
            replaces=replaces,
            protection=protection,
        )
        job = await put()
        if before is not None:
            await self._store.put_attachment(tenant, record, key)
        elif not await self._store.create_attachment(tenant, record, key):
            # Two requests at once: the other one's attachment stands.
            await self._queue.drop(job)
            other = await self._store.attachment(tenant, store_id, file.id, key)
            return record if other is None else other
        if not await self._queue.waits(job):
            # A worker looked before the attachment was there and dropped the marker.
            await put()
        self._queue.wake()
        return record


def _ingest_again(before: Attached, entry: AttachFile, chunking: Chunking) -> bool:
    if before.status in {"failed", "cancelled"}:
        return True
    return entry.chunking_strategy is not None and before.record.chunking != chunking
