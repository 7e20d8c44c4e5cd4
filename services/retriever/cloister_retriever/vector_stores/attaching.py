"""Putting files into a vector store, one or two thousand by one request, so that their ingestion is durable.

What a request of many files costs the object store is three small objects to write for each, a few at a time, and a
listing before and after: what one may ask for in one request is also done within it, and nothing of it is read again.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cloister_common.payer import Payer
from cloister_common.vault import DataKey

from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.identifiers import ATTACHMENT_PREFIX, FILE_PREFIX, missing, new_placed_id
from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.parsing.sidecars import is_picture
from cloister_retriever.settings import Protection
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Chunking, described_as
from cloister_retriever.vector_stores.schemas import AttachFile, ChunkingStrategy, StaticChunking
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["Attaching", "ChunkingPolicy", "Place", "is_described_anew"]

_FEW = 8
"""Files that are looked up one by one; of more the folder is listed, which a thousand make no dearer."""


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


class Place(NamedTuple):
    """Where files are put: a store of a tenant, with its key, and the protection that it gives them; and who pays."""

    tenant: str
    store_id: str
    key: DataKey
    protection: Protection
    payer: Payer | None = None


class Attaching:
    """Attaches files to vector stores."""

    def __init__(self, store: VectorStoreStore, uses: FileUses, queue: JobQueue, chunking: ChunkingPolicy) -> None:
        self._store = store
        self._uses = uses
        self._queue = queue
        self._chunking = chunking

    async def attach(
        self, place: Place, entries: Sequence[AttachFile], files: Mapping[str, FileRecord]
    ) -> list[Attached]:
        """Attaches every file; ingestion of all is durable when this returns.

        A file that is in the store already stays as it is (with the attributes sent, if any), so that a repeated
        request does no harm; it is ingested again if its ingestion failed or other chunking is asked for.
        """
        # In the list they have the order of the request, although they are attached at the same time.
        now = time.time_ns()
        there = {entry.file_id for entry in entries}
        if len(entries) > _FEW:
            there &= await self._store.attached_ids(place.tenant, place.store_id)

        async def one(numbered: tuple[int, AttachFile]) -> tuple[Attached, Job | None]:
            number, entry = numbered
            before = None
            if entry.file_id in there:
                before = await self._store.attached(place.tenant, place.store_id, entry.file_id, place.key)
            return await self._attach(place, entry, files[entry.file_id], before, now + number)

        attached = await each(one, enumerate(entries))
        await self._queue_again([job for _, job in attached if job is not None])
        self._queue.wake()
        return [file for file, _ in attached]

    async def put(self, tenant: str, record: AttachmentRecord, key: DataKey) -> None:
        """Replaces the record of a file that is in the store.

        Raises:
            NotFound: It was detached in this moment; then it does not come back.
        """
        await self._store.put_attachment(tenant, record, key)
        if not await self._uses.is_noted(tenant, record.file_id, record.store_id):
            await self._store.delete_attachment(tenant, record)
            raise missing(FILE_PREFIX, record.file_id)

    async def _attach(
        self, place: Place, entry: AttachFile, file: FileRecord, before: Attached | None, now: int
    ) -> tuple[Attached, Job | None]:
        tenant, store_id, key, protection, payer = place
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
            payer=payer,
        )
        if before is not None and not _ingest_again(before, entry, record.chunking):
            if entry.attributes is None:
                return before, None
            kept = before.record.model_copy(update={"attributes": entry.attributes})
            await self.put(tenant, kept, key)
            return Attached(record=kept, outcome=before.outcome), None
        await self._uses.note(tenant, file.id, store_id)
        # The marker first: a crash after it leaves a job without an attachment, which a worker drops.
        job = await self._queue.put(
            *("ingest", tenant, store_id),
            file_id=file.id,
            attachment_id=record.id,
            replaces=None if before is None else before.record.id or None,
            protection=protection,
            size=file.size,
        )
        if before is not None:
            await self._store.put_attachment(tenant, record, key)
        elif not await self._store.create_attachment(tenant, record, key):
            # Two requests at once: the other one's attachment stands.
            await self._queue.drop(job)
            other = await self._store.attached(tenant, store_id, file.id, key)
            return other or Attached(record=record, outcome=None), None
        return Attached(record=record, outcome=None), job

    async def _queue_again(self, jobs: Sequence[Job]) -> None:
        """Puts those again whose marker a worker dropped, since it looked before the attachment was there."""
        if len(jobs) > _FEW:
            waiting = await self._queue.names()
            gone = [job for job in jobs if job.name not in waiting]
        else:
            gone = [job for job in jobs if not await self._queue.waits(job)]
        await each(self._queue.put_again, gone)


def _ingest_again(before: Attached, entry: AttachFile, chunking: Chunking) -> bool:
    if before.status in {"failed", "cancelled"} or is_described_anew(before.record, entry.attributes):
        return True
    return entry.chunking_strategy is not None and before.record.chunking != chunking


def is_described_anew(record: AttachmentRecord, attributes: Mapping[str, object] | None) -> bool:
    """Whether these attributes give a picture another description. None leave it as it is where a file is attached."""
    return (
        attributes is not None
        and is_picture(record.file_name)
        and described_as(attributes) != described_as(record.attributes)
    )
