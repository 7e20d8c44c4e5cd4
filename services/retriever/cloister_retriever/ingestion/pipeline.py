"""One file's way: read, parse, embed, seal, index; or the sentence that says why not.

Doing it again, after a crash or beside a slow twin, gives the same rows under the same ids. So the pipeline needs no
checkpoints: what counts is the outcome, which is created once, after every passage was counted in the index.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError, Conflict, InvalidRequest, TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError
from prometheus_client import Counter

from cloister_retriever.damage import Damaged, sentence
from cloister_retriever.files.service import FileService
from cloister_retriever.files.store import FileStore
from cloister_retriever.index.passages import Passage, PassageOwner, seal_passage
from cloister_retriever.index.protocol import Entry, Index
from cloister_retriever.index.rotation import Rotations, normalised
from cloister_retriever.ingestion.queue import Job, JobQueue
from cloister_retriever.ingestion.turns import Turn
from cloister_retriever.keys import PassageKeys, passage_keys
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parsed, Parser
from cloister_retriever.vector_stores.records import AttachmentRecord, ErrorCode, Outcome
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["Pipeline"]

log = get_logger(__name__)
_INGESTED = Counter("cloister_ingested_files_total", "Files whose ingestion ended, by how.", ["status"])
_PASSAGES = Counter("cloister_ingested_passages_total", "Passages indexed.")

_PASSAGES_A_STEP = 64
"""Embedded, sealed and written together: small enough that a cancellation is seen soon, and that another tenant's file
gets its turn."""


class _Gone(Exception):
    """Nobody wants the result any more: the file was detached or deleted, or its ingestion was cancelled."""


class Pipeline:
    """Does jobs. Raises `Unavailable` or `TooManyRequests` where trying again later makes sense; nothing else."""

    def __init__(
        self,
        *,
        files: FileService,
        file_store: FileStore,
        stores: VectorStoreStore,
        parser: Parser,
        embedder: EmbedderClient,
        index: Index,
        rotations: Rotations,
    ) -> None:
        self._files = files
        self._file_store = file_store
        self._stores = stores
        self._parser = parser
        self._embedder = embedder
        self._index = index
        self._rotations = rotations

    async def work(self, job: Job, turn: Turn) -> None:
        """Does ``job`` to its end. Where it takes long it stands aside when ``turn`` says so."""
        if job.kind == "purge":
            await self._purge(job)
            return
        await self._clear_replaced(job)
        try:
            await self._ingest(job, turn)
        except _Gone:
            await self._clear(job)

    async def give_up(self, job: Job) -> None:
        """Ends an ingestion that took several workers down with it."""
        found = await self._attachment(job)
        if found is not None:
            attachment, key = found
            await self._fail(job, attachment, key, "server_error", "Reading this file failed again and again.")

    async def is_early(self, job: Job) -> bool:
        """Whether there is no attachment to a job: not any more, or not yet.

        Whoever attaches a file writes the marker first. Should he die after the attachment, nobody else would put the
        marker back, so it must not be removed at the first look.
        """
        return job.kind == "ingest" and await self._attachment(job) is None

    async def requeue(self, job: Job, queue: JobQueue) -> None:
        """Puts a job that has just ended again, if its attachment came to be in that moment.

        Whoever attaches a file writes the marker, then the attachment, then looks whether the marker is still there;
        a worker removes the marker, then looks whether there is an attachment now. So one of the two always sees it.
        """
        if job.kind != "ingest":
            return
        found = await self._attachment(job)
        if found is not None and await self._stores.outcome(job.tenant, job.store_id, found[0].id, found[1]) is None:
            await queue.put(
                "ingest",
                job.tenant,
                job.store_id,
                file_id=job.file_id,
                attachment_id=job.attachment_id,
                replaces=job.replaces,
            )

    async def _ingest(self, job: Job, turn: Turn) -> None:
        found = await self._attachment(job)
        if found is None:
            raise _Gone
        attachment, key = found
        if await self._stores.outcome(job.tenant, job.store_id, attachment.id, key) is not None:
            # Ended before the marker was removed. A cancelled one may have left passages.
            raise _Gone
        try:
            await self._run(job, attachment, key, turn)
        except UnreadableFile as error:
            await self._fail(job, attachment, key, error.code, error.message)
        except (Unavailable, TooManyRequests):
            raise
        except (InvalidRequest, Conflict) as error:
            await self._fail(job, attachment, key, "server_error", error.message)
        except (VaultError, Damaged):
            log.error("stored_data_damaged", what="file", id=attachment.file_id)
            await self._fail(job, attachment, key, "server_error", sentence("file", attachment.file_id))
        except CloisterError as error:
            log.error("ingestion_failed", file=attachment.file_id, reason=type(error).__name__)
            await self._fail(job, attachment, key, "server_error", "The server had an error while reading the file.")

    async def _run(self, job: Job, attachment: AttachmentRecord, key: DataKey, turn: Turn) -> None:
        file_key = await self._file_store.key(job.tenant, attachment.file_id)
        file = await self._file_store.get(job.tenant, attachment.file_id)
        if file is None or file_key is None:
            # Deleted while it was being attached: whoever deleted it could not see the attachment yet.
            await self._file_store.forget_use(job.tenant, attachment.file_id, job.store_id)
            await self._stores.delete_attachment(job.tenant, attachment)
            raise _Gone
        self._file_store.check_room()  # before the work whose result could not be stored
        keys = passage_keys(key, file_key)
        started = time.monotonic()
        parsed = await self._parser.parse(
            self._files.content(job.tenant, file),
            name=file.name,
            max_tokens=attachment.chunking.max_tokens,
            overlap_tokens=attachment.chunking.overlap_tokens,
            turn=turn,
        )
        text = parsed.text.encode()
        await self._stores.write_text(job.tenant, attachment, _once(text), keys.texts, max_bytes=len(text))
        usage = await self._index_passages(job, attachment, key, keys, parsed, turn)
        await self._finish(job, attachment, key, parsed, usage_bytes=usage, text_bytes=len(text))
        _PASSAGES.inc(len(parsed.chunks))
        log.info(
            "file_ingested",
            file=attachment.file_id,
            passages=len(parsed.chunks),
            seconds=round(time.monotonic() - started, 3),
        )

    async def _index_passages(
        self,
        job: Job,
        attachment: AttachmentRecord,
        key: DataKey,
        keys: PassageKeys,
        parsed: Parsed,
        turn: Turn,
    ) -> int:
        """Embeds, seals and writes every passage; returns what they take in the index, in bytes."""
        owner = PassageOwner(job.tenant, job.store_id, attachment.file_id, attachment.id)
        usage = 0
        for first in range(0, len(parsed.chunks), _PASSAGES_A_STEP):
            await turn.held()
            if first and await self._unwanted(job, attachment, key):
                raise _Gone
            passages = [
                Passage(
                    position=first + number,
                    text=parsed.text[chunk.start : chunk.end],
                    start=chunk.start,
                    end=chunk.end,
                    page=chunk.page,
                    section=chunk.section,
                )
                for number, chunk in enumerate(parsed.chunks[first : first + _PASSAGES_A_STEP])
            ]
            embedded = await self._embedder.embed([passage.text for passage in passages], bulk=True)
            entries = await asyncio.to_thread(self._seal, keys, owner, passages, embedded.vectors)
            usage += sum(entry.stored_bytes for entry in entries)
            await self._index.upsert(entries)
        return usage

    def _seal(
        self, keys: PassageKeys, owner: PassageOwner, passages: list[Passage], vectors: list[bytes]
    ) -> list[Entry]:
        exact = normalised(np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1))
        rotated = self._rotations.rotate(keys.rotation, exact)
        sealed = (seal_passage(keys, owner, *of) for of in zip(passages, exact, strict=True))
        return [Entry(passage, dense) for passage, dense in zip(sealed, rotated.tolist(), strict=True)]

    async def _finish(
        self,
        job: Job,
        attachment: AttachmentRecord,
        key: DataKey,
        parsed: Parsed,
        *,
        usage_bytes: int,
        text_bytes: int,
    ) -> None:
        count = len(parsed.chunks)
        found = await self._index.count(job.store_id, attachment.id)
        if found > count:
            # An earlier run, by another version of this program, had cut the file into more passages.
            await self._index.delete(job.store_id, attachment.id, from_position=count)
            found = await self._index.count(job.store_id, attachment.id)
            if found > count:
                # Rows were copied. All of them go, and the next attempt writes those that belong there.
                await self._index.delete(job.store_id, attachment.id)
        if found != count:
            log.warning("passages_not_all_there", file=attachment.file_id, expected=count, found=found)
            raise Unavailable("The index has not taken every passage yet.", retry_after=1)
        if await self._unwanted(job, attachment, key):
            raise _Gone
        await self._stores.note_grown(job.tenant, job.store_id, key)
        outcome = Outcome(
            attachment_id=attachment.id,
            status="completed",
            passages=count,
            usage_bytes=usage_bytes,
            text_bytes=text_bytes,
            finished_at=int(time.time()),
        )
        if not await self._stores.decide(job.tenant, attachment, outcome, key):
            raise _Gone
        _INGESTED.labels("completed").inc()

    async def _fail(self, job: Job, attachment: AttachmentRecord, key: DataKey, code: ErrorCode, message: str) -> None:
        await self._index.delete(job.store_id, attachment.id)
        outcome = Outcome(
            attachment_id=attachment.id, status="failed", code=code, message=message, finished_at=int(time.time())
        )
        if await self._stores.decide(job.tenant, attachment, outcome, key):
            _INGESTED.labels("failed").inc()
            log.info("file_not_ingested", file=attachment.file_id, code=code)

    async def _attachment(self, job: Job) -> tuple[AttachmentRecord, DataKey] | None:
        """The attachment a job is for, unless it is gone or was replaced by a later one."""
        assert job.file_id is not None
        key = await self._stores.key(job.tenant, job.store_id)
        if key is None:
            return None
        try:
            attachment = await self._stores.attachment(job.tenant, job.store_id, job.file_id, key)
        except VaultError:
            # The list of the store says so. What was begun for it is cleared away.
            log.error("stored_data_damaged", what="attachment", id=job.attachment_id)
            return None
        return None if attachment is None or attachment.id != job.attachment_id else (attachment, key)

    async def _unwanted(self, job: Job, attachment: AttachmentRecord, key: DataKey) -> bool:
        if await self._attachment(job) is None:
            return True
        return await self._stores.outcome(job.tenant, job.store_id, attachment.id, key) is not None

    async def _purge(self, job: Job) -> None:
        """Removes passages, after the records above them: who planned this may have died before they were gone."""
        if job.attachment_id is None:
            await self._stores.delete(job.tenant, job.store_id)
        elif job.file_id is not None and (found := await self._attachment(job)) is not None:
            await self._file_store.forget_use(job.tenant, job.file_id, job.store_id)
            await self._stores.delete_attachment(job.tenant, found[0])
        await self._index.delete(job.store_id, job.attachment_id)

    async def _clear_replaced(self, job: Job) -> None:
        """Removes what the attachment left that this job's replaced, unless that is still the file's attachment."""
        assert job.file_id is not None
        key = await self._stores.key(job.tenant, job.store_id)
        if job.replaces is None or key is None:
            return
        current = await self._stores.attached(job.tenant, job.store_id, job.file_id, key)
        if current is None or current.record.id != job.replaces:
            await self._index.delete(job.store_id, job.replaces)
            await self._stores.delete_ingested(job.tenant, job.store_id, job.replaces)

    async def _clear(self, job: Job) -> None:
        """Removes what was indexed for an attachment, unless it is one that was completed."""
        assert job.attachment_id is not None
        found = await self._attachment(job)
        if found is not None:
            attachment, key = found
            outcome = await self._stores.outcome(job.tenant, job.store_id, attachment.id, key)
            if outcome is not None and outcome.status == "completed":
                return
        await self._index.delete(job.store_id, job.attachment_id)
        if found is None:
            await self._stores.delete_ingested(job.tenant, job.store_id, job.attachment_id)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
