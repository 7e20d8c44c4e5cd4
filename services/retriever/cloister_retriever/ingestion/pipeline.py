"""One file's way: read, parse, embed, seal, index; or the sentence that says why not.

Doing it again, after a crash or beside a slow twin, gives the same rows under the same ids. So the pipeline needs no
checkpoints: what counts is the outcome, which is created once, after every passage was counted in the index.
"""

import asyncio
import time
from functools import partial

import numpy as np
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError, Conflict, InvalidRequest, NotFound, TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from prometheus_client import Counter

from cloister_retriever.damage import Damaged, sentence
from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.files.service import FileService
from cloister_retriever.index.passages import Passage, PassageOwner, passage_id, seal_passage
from cloister_retriever.index.protocol import Entry, Index
from cloister_retriever.index.rotation import Rotations, normalised
from cloister_retriever.ingestion.turns import Turn
from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.keys import PassageKeyring, PassageKeys
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parsed, Parser
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.terms.postings import PostingsWriter
from cloister_retriever.terms.weights import TermKey, TermWeights, passage_terms
from cloister_retriever.terms.words import language_of, words_of
from cloister_retriever.vector_stores.ingestions import Ingestion, IngestionService
from cloister_retriever.vector_stores.records import ErrorCode
from cloister_retriever.vector_stores.terms import Words

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
        ingestions: IngestionService,
        keys: PassageKeyring,
        parser: Parser,
        embedder: EmbedderClient,
        indexes: Indexes,
        rotations: Rotations,
        words: Words,
    ) -> None:
        self._files = files
        self._ingestions = ingestions
        self._keys = keys
        self._parser = parser
        self._embedder = embedder
        self._indexes = indexes
        self._rotations = rotations
        self._words = words

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
        ingestion = await self._of(job)
        if ingestion is not None:
            await self._fail(ingestion, "server_error", "Reading this file failed again and again.")

    async def is_early(self, job: Job) -> bool:
        """Whether there is no attachment to a job: not any more, or not yet.

        Whoever attaches a file writes the marker first. Should he die after the attachment, nobody else would put the
        marker back, so it must not be removed at the first look.
        """
        return job.kind == "ingest" and await self._of(job) is None

    async def requeue(self, job: Job, queue: JobQueue) -> None:
        """Puts a job that has just ended again, if its attachment came to be in that moment.

        Whoever attaches a file writes the marker, then the attachment, then looks whether the marker is still there;
        a worker removes the marker, then looks whether there is an attachment now. So one of the two always sees it.
        """
        if job.kind != "ingest":
            return
        if await self._is_wanted(job):
            await queue.put(
                "ingest",
                job.tenant,
                job.store_id,
                file_id=job.file_id,
                attachment_id=job.attachment_id,
                replaces=job.replaces,
                protection=job.protection,
            )

    async def _ingest(self, job: Job, turn: Turn) -> None:
        ingestion = await self._of(job)
        if ingestion is None:
            raise _Gone
        if await self._ingestions.outcome(ingestion) is not None:
            # Ended before the marker was removed. A cancelled one may have left passages.
            raise _Gone
        try:
            await self._run(job, ingestion, turn)
        except UnreadableFile as error:
            await self._fail(ingestion, error.code, error.message)
        except (Unavailable, TooManyRequests):
            raise
        except (InvalidRequest, Conflict) as error:
            await self._fail(ingestion, "server_error", error.message)
        except (VaultError, Damaged):
            log.error("stored_data_damaged", what="file", id=ingestion.file_id)
            await self._fail(ingestion, "server_error", sentence("file", ingestion.file_id))
        except CloisterError as error:
            log.error("ingestion_failed", file=ingestion.file_id, reason=type(error).__name__)
            await self._fail(ingestion, "server_error", "The server had an error while reading the file.")

    async def _run(self, job: Job, ingestion: Ingestion, turn: Turn) -> None:
        file, keys = await self._file(ingestion)
        self._ingestions.check_room()  # before the work whose result could not be stored
        started = time.monotonic()
        chunking = ingestion.attachment.chunking
        parsed = await self._parser.parse(
            self._files.content(job.tenant, file),
            name=file.name,
            max_tokens=chunking.max_tokens,
            overlap_tokens=chunking.overlap_tokens,
            turn=turn,
        )
        await self._ingestions.check_place(ingestion, len(parsed.chunks))
        text = parsed.text.encode()
        await self._ingestions.write_text(ingestion, text, keys)
        index = self._indexes.of(job.tenant, ingestion.key, ingestion.attachment.protection)
        usage = await self._index_passages(index, job, ingestion, keys, parsed, turn)
        await self._finish(
            index, job, ingestion, keys, passages=len(parsed.chunks), usage_bytes=usage, text_bytes=len(text)
        )
        _PASSAGES.inc(len(parsed.chunks))
        log.info(
            "file_ingested",
            file=ingestion.file_id,
            passages=len(parsed.chunks),
            seconds=round(time.monotonic() - started, 3),
        )

    async def _file(self, ingestion: Ingestion) -> tuple[FileRecord, PassageKeys]:
        """The file that is to be read, and what seals its passages."""
        keys = await self._keys.get(ingestion.tenant, ingestion.key, ingestion.file_id)
        try:
            file = await self._files.get(ingestion.tenant, ingestion.file_id)
        except NotFound:
            keys = None
        if keys is None:
            # Deleted while it was being attached: whoever deleted it could not see the attachment yet.
            await self._ingestions.remove(ingestion)
            raise _Gone
        return file, keys

    async def _index_passages(
        self, index: Index, job: Job, ingestion: Ingestion, keys: PassageKeys, parsed: Parsed, turn: Turn
    ) -> int:
        """Embeds, seals and writes every passage; returns what they take in the index, in bytes."""
        owner = PassageOwner(job.tenant, job.store_id, ingestion.file_id, ingestion.attachment.id)
        language = await asyncio.to_thread(language_of, parsed.text)
        writer = PostingsWriter(language)
        usage = 0
        for first in range(0, len(parsed.chunks), _PASSAGES_A_STEP):
            await turn.held()
            if first and not await self._is_wanted(job):
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
            terms = await asyncio.to_thread(_terms, keys, passages, language, ingestion.attachment.file_name)
            entries = await asyncio.to_thread(self._seal, keys, owner, passages, embedded.vectors, terms)
            writer.add(terms)
            usage += sum(entry.stored_bytes for entry in entries)
            await index.upsert(entries)
        postings = await asyncio.to_thread(partial(writer.postings, to_search=not index.by_words))
        await self._words.write(job.tenant, job.store_id, ingestion.attachment.id, ingestion.key, postings)
        return usage

    def _seal(
        self,
        keys: PassageKeys,
        owner: PassageOwner,
        passages: list[Passage],
        vectors: list[bytes],
        terms: list[TermWeights],
    ) -> list[Entry]:
        exact = normalised(np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1))
        rotated = self._rotations.rotate(keys.rotation, exact)
        sealed = (seal_passage(keys, owner, *of) for of in zip(passages, exact, strict=True))
        return [Entry(*of) for of in zip(sealed, rotated.tolist(), terms, strict=True)]

    async def _finish(
        self,
        index: Index,
        job: Job,
        ingestion: Ingestion,
        keys: PassageKeys,
        *,
        passages: int,
        usage_bytes: int,
        text_bytes: int,
    ) -> None:
        attachment_id = ingestion.attachment.id
        owner = PassageOwner(job.tenant, job.store_id, ingestion.file_id, attachment_id)
        *expected, following = await asyncio.to_thread(
            lambda: [passage_id(keys, owner, position) for position in range(passages + 1)]
        )
        if await index.count(job.store_id, [following]):
            # An earlier run, by another version of this program, had cut the file into more passages.
            await index.delete(job.store_id, attachment_id, from_position=passages)
        found = await index.count(job.store_id, expected)
        if found > passages:
            # An earlier run wrote them elsewhere too. All of them go, and the next attempt writes those that belong.
            await index.delete(job.store_id, attachment_id)
        if found != passages:
            log.warning("passages_not_all_there", file=ingestion.file_id, expected=passages, found=found)
            raise Unavailable("The index has not taken every passage yet.", retry_after=1)
        if not await self._is_wanted(job):
            raise _Gone
        if not await self._ingestions.complete(
            ingestion, passages=passages, usage_bytes=usage_bytes, text_bytes=text_bytes
        ):
            raise _Gone
        _INGESTED.labels("completed").inc()

    async def _fail(self, ingestion: Ingestion, code: ErrorCode, message: str) -> None:
        protection = ingestion.attachment.protection
        await self._indexes.delete(ingestion.tenant, ingestion.store_id, ingestion.attachment.id, protection=protection)
        if await self._ingestions.fail(ingestion, code, message):
            _INGESTED.labels("failed").inc()
            log.info("file_not_ingested", file=ingestion.file_id, code=code)

    async def _of(self, job: Job) -> Ingestion | None:
        """What a job is about, unless that is gone or was replaced by a later one."""
        assert job.file_id is not None
        return await self._ingestions.find(job.tenant, job.store_id, job.file_id, job.attachment_id)

    async def _is_wanted(self, job: Job) -> bool:
        """Whether a job's attachment is there, and its ingestion has not ended."""
        ingestion = await self._of(job)
        return ingestion is not None and await self._ingestions.outcome(ingestion) is None

    async def _purge(self, job: Job) -> None:
        """Removes passages, after the records above them: who planned this may have died before they were gone."""
        if job.attachment_id is None:
            await self._ingestions.remove_store(job.tenant, job.store_id)
        elif job.file_id is not None and (ingestion := await self._of(job)) is not None:
            await self._ingestions.remove(ingestion)
        await self._indexes.delete(job.tenant, job.store_id, job.attachment_id, protection=job.protection)

    async def _clear_replaced(self, job: Job) -> None:
        """Removes what the attachment left that this job's replaced, unless that is still the file's attachment."""
        assert job.file_id is not None
        if job.replaces is None:
            return
        if await self._ingestions.is_current(job.tenant, job.store_id, job.file_id, job.replaces) is False:
            await self._indexes.delete(job.tenant, job.store_id, job.replaces, protection=job.protection)
            await self._ingestions.clear(job.tenant, job.store_id, job.replaces)

    async def _clear(self, job: Job) -> None:
        """Removes what was indexed for an attachment, unless it is one that was completed."""
        assert job.attachment_id is not None
        ingestion = await self._of(job)
        if ingestion is not None:
            outcome = await self._ingestions.outcome(ingestion)
            if outcome is not None and outcome.status == "completed":
                return
        await self._indexes.delete(job.tenant, job.store_id, job.attachment_id, protection=job.protection)
        if ingestion is None:
            await self._ingestions.clear(job.tenant, job.store_id, job.attachment_id)


def _terms(keys: PassageKeys, passages: list[Passage], language: str, file_name: str) -> list[TermWeights]:
    """What passages are found by: their words, and those of their headings and of the file's name."""
    key = TermKey(keys.terms)
    around = [f"{file_name}\n{passage.section or ''}\n" for passage in passages]
    return [
        passage_terms(key, words_of(before + passage.text, [language]))
        for before, passage in zip(around, passages, strict=True)
    ]
