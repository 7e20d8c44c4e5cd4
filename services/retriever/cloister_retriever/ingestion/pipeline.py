"""One file's way: read, parse, embed, seal, index; or the sentence that says why not.

Doing it again, after a crash or beside a slow twin, gives the same rows under the same ids. So the pipeline needs no
checkpoints: what counts is the outcome, which is created once, after every passage was counted in the index.
"""

import asyncio
import time
from functools import partial
from typing import Protocol

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError, Conflict, InvalidRequest, NotFound, TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from prometheus_client import Counter

from cloister_retriever.damage import Damaged, sentence
from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.files.service import FileService
from cloister_retriever.index.passages import PassageOwner, passage_id
from cloister_retriever.index.protocol import Index
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.ingestion.clearing import Clearing
from cloister_retriever.ingestion.passages import PassageWriter
from cloister_retriever.ingestion.paying import Paying, Refused
from cloister_retriever.ingestion.reading import Reading, Shelf
from cloister_retriever.ingestion.turns import Turn
from cloister_retriever.ingestion.watch import Watch, watched
from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.keys import PassageKeyring, PassageKeys
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parsed, Parser
from cloister_retriever.pictures.ingestion import PictureKeeper
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.terms.words import language_of
from cloister_retriever.vector_stores.ingestions import Ingestion, IngestionService
from cloister_retriever.vector_stores.records import ErrorCode
from cloister_retriever.vector_stores.terms import Words

__all__ = ["Pipeline"]

log = get_logger(__name__)
_INGESTED = Counter("cloister_ingested_files_total", "Files whose ingestion ended, by how.", ["status"])
_PASSAGES = Counter("cloister_ingested_passages_total", "Passages indexed.")


class _Gone(Exception):
    """Nobody wants the result any more: the file was detached or deleted, or its ingestion was cancelled."""


class Works(Protocol):
    """Does the jobs that change a store's edition: `cloister_retriever.reembedding`."""

    async def work(self, job: Job, turn: Turn) -> None:
        """Does ``job`` to its end."""

    async def is_early(self, job: Job) -> bool:
        """Whether what ``job`` is to follow is not there yet."""


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
        queue: JobQueue,
        reembedder: Works,
        pictures: PictureKeeper,
        paying: Paying,
    ) -> None:
        self._files = files
        self._ingestions = ingestions
        self._keys = keys
        self._parser = parser
        self._indexes = indexes
        self._words = words
        self._passages = PassageWriter(embedder, rotations, words, paying)
        self._queue = queue
        self._reembedder = reembedder
        self._pictures = pictures
        self._paying = paying
        self._shelf = Shelf()
        self._clearing = Clearing(ingestions, indexes, words)

    async def warm(self) -> None:
        """Loads what the first file would wait for."""
        self._parser.warm()
        await asyncio.to_thread(language_of, "Models of languages are loaded when they are first asked.")

    async def work(self, job: Job, turn: Turn) -> None:
        """Does ``job`` to its end. Where it takes long it stands aside when ``turn`` says so."""
        if job.kind == "purge":
            await self._clearing.purge(job)
            return
        if job.kind in {"reembed", "prune"}:
            await self._reembedder.work(job, turn)
            return
        await self._clearing.replaced(job)
        try:
            await self._ingest(job, turn)
        except _Gone:
            assert job.attachment_id is not None
            await self._paying.end(job.attachment_id, "cancelled")
            await self._clear(job)

    async def give_up(self, job: Job) -> None:
        """Ends an ingestion that took several workers down with it."""
        ingestion = await self._of(job)
        if ingestion is not None:
            await self._fail(ingestion, "server_error", "Reading this file failed again and again.")
        elif job.attachment_id is not None:
            await self._paying.end(job.attachment_id, "cancelled")

    def leave(self, job: Job) -> None:
        """Forgets what this process alone knows of a job: it is done, or another process does it now."""
        if job.attachment_id is not None:
            self._paying.leave(job.attachment_id)

    async def is_early(self, job: Job) -> bool:
        """Whether there is no attachment to a job: not any more, or not yet.

        Whoever attaches a file writes the marker first. Should he die after the attachment, nobody else would put the
        marker back, so it must not be removed at the first look.
        """
        if job.kind in {"reembed", "prune"}:
            return await self._reembedder.is_early(job)
        return job.kind == "ingest" and await self._of(job) is None

    async def requeue(self, job: Job, queue: JobQueue) -> None:
        """Puts a job that has just ended again, if its attachment came to be in that moment.

        Whoever attaches a file writes the marker, then the attachment, then looks whether the marker is still there;
        a worker removes the marker, then looks whether there is an attachment now. So one of the two always sees it.
        """
        if job.kind != "ingest":
            return
        if await self._is_wanted(job):
            await queue.put_again(job)

    async def _ingest(self, job: Job, turn: Turn) -> None:
        ingestion = await self._of(job)
        if ingestion is None:
            raise _Gone
        if await self._ingestions.outcome(ingestion) is not None:
            # Ended before the marker was removed. A cancelled one may have left passages.
            raise _Gone
        try:
            async with watched(self._ingestions, ingestion) as watch:
                await self._run(job, ingestion, turn, watch)
        except UnreadableFile as error:
            await self._fail(ingestion, error.code, error.message)
        except Refused as error:
            await self._fail(ingestion, "rate_limit_exceeded", error.message)
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

    async def _run(self, job: Job, ingestion: Ingestion, turn: Turn, watch: Watch) -> None:
        file, keys = await self._file(ingestion)
        self._ingestions.check_room()  # before the work whose result could not be stored
        started = time.monotonic()
        reading = self._reading(job, ingestion, file, turn, watch)
        pages, passages = _counts(await reading.parsed())
        watch.read(pages)
        protection = await self._ingestions.place(ingestion, passages)
        if protection != ingestion.attachment.protection:
            # An earlier attempt may have begun while the store was smaller.
            await self._indexes.delete(job.tenant, job.store_id, job.attachment_id, protection="sealed")
        outgrown = protection != job.protection
        if ingestion.edition.number or outgrown:
            await self._queue.note(job, ingestion.edition, None if outgrown else job.protection)
        await self._paying.ask(ingestion, reading, turn, partial(self._check_wanted, job))
        parsed = await reading.parsed()
        text = parsed.text.encode()
        await self._ingestions.write_text(ingestion, text, keys)
        index = self._indexes.of(job.tenant, job.store_id, ingestion.key, protection, ingestion.edition)

        async def between() -> None:
            await turn.held()
            await self._check_wanted(job)

        usage = await self._passages.index(index, ingestion, keys, parsed, watch, between)
        owner = PassageOwner(job.tenant, job.store_id, ingestion.file_id, ingestion.attachment.id)
        usage += await self._pictures.keep(owner, ingestion.key, protection, parsed, between)
        await self._finish(index, job, ingestion, keys, parsed, watch, usage_bytes=usage, text_bytes=len(text))
        _PASSAGES.inc(len(parsed.chunks))
        log.info(
            "file_ingested",
            file=ingestion.file_id,
            passages=len(parsed.chunks),
            seconds=round(time.monotonic() - started, 3),
        )

    def _reading(self, job: Job, ingestion: Ingestion, file: FileRecord, turn: Turn, watch: Watch) -> Reading:
        chunking = ingestion.attachment.chunking

        async def read() -> Parsed:
            return await self._parser.parse(
                self._files.content(job.tenant, file),
                name=file.name,
                max_tokens=chunking.max_tokens,
                overlap_tokens=chunking.overlap_tokens,
                turn=turn,
                on_page=watch.page,
                description=ingestion.description,
            )

        return Reading(read, self._shelf)

    async def _file(self, ingestion: Ingestion) -> tuple[FileRecord, PassageKeys]:
        """The file that is to be read, and what seals its passages."""
        keys = await self._keys.get(ingestion.tenant, ingestion.key, ingestion.file_id, ingestion.edition.number)
        try:
            file = await self._files.get(ingestion.tenant, ingestion.file_id)
        except NotFound:
            keys = None
        if keys is None:
            # Deleted while it was being attached: whoever deleted it could not see the attachment yet.
            await self._ingestions.remove(ingestion)
            raise _Gone
        return file, keys

    async def _finish(
        self,
        index: Index,
        job: Job,
        ingestion: Ingestion,
        keys: PassageKeys,
        parsed: Parsed,
        watch: Watch,
        *,
        usage_bytes: int,
        text_bytes: int,
    ) -> None:
        passages = len(parsed.chunks)
        attachment_id, owner, place = ingestion.attachment.id, ingestion.owner, ingestion.place
        *expected, following = await asyncio.to_thread(
            lambda: [passage_id(keys, owner, position) for position in range(passages + 1)]
        )
        if await index.count(place.name, [following]):
            # An earlier run, by another version of this program, had cut the file into more passages.
            await index.delete(place.name, attachment_id, from_position=passages)
        found = await index.count(place.name, expected)
        if found > passages:
            # An earlier run wrote them elsewhere too. All of them go, and the next attempt writes those that belong.
            await index.delete(place.name, attachment_id)
        if found != passages:
            log.warning("passages_not_all_there", file=ingestion.file_id, expected=passages, found=found)
            raise Unavailable("The index has not taken every passage yet.", retry_after=1)
        await self._check_wanted(job)
        if await self._ingestions.edition(job.tenant, job.store_id) != ingestion.edition:
            await self._words.remove(job.tenant, place, attachment_id)
            raise Unavailable("The vector store is searched in another edition by now.", retry_after=1)
        # Before the outcome: behind it nobody would come back to this.
        await self._paying.end(ingestion.attachment.id, "completed")
        if not await self._ingestions.complete(
            ingestion,
            pages=watch.pages,
            passages=passages,
            usage_bytes=usage_bytes,
            text_bytes=text_bytes,
            details=" ".join(parsed.notes) or None,
        ):
            raise _Gone
        await self._follow(job)
        _INGESTED.labels("completed").inc()

    async def _fail(self, ingestion: Ingestion, code: ErrorCode, message: str) -> None:
        protection = ingestion.attachment.protection
        await self._clearing.remove(ingestion.tenant, ingestion.store_id, ingestion.attachment.id, protection)
        await self._paying.end(ingestion.attachment.id, "failed")
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

    async def _check_wanted(self, job: Job) -> None:
        if not await self._is_wanted(job):
            raise _Gone

    async def _follow(self, job: Job) -> None:
        """Has a file that was completed brought into the edition that is searched, if that changed in this moment."""
        ingestion = await self._of(job)
        if ingestion is None or await self._words.has(job.tenant, ingestion.place, ingestion.attachment.id):
            return
        await self._queue.put("reembed", job.tenant, job.store_id, edition=ingestion.edition)
        self._queue.wake()

    async def _clear(self, job: Job) -> None:
        """Removes what was indexed for an attachment, unless it is one that was completed."""
        assert job.attachment_id is not None
        ingestion = await self._of(job)
        if ingestion is not None:
            outcome = await self._ingestions.outcome(ingestion)
            if outcome is not None and outcome.status == "completed":
                await self._follow(job)
                return
        noted = await self._queue.noted(job)
        await self._clearing.remove(job.tenant, job.store_id, job.attachment_id, noted.protection)
        if ingestion is None:
            await self._ingestions.clear(job.tenant, job.store_id, job.attachment_id)
            await self._clearing.edition(noted, job.attachment_id)


def _counts(parsed: Parsed) -> tuple[int | None, int]:
    """How many pages and passages were read. (Whoever asks keeps nothing else of it.)"""
    return max((chunk.page or 0 for chunk in parsed.chunks), default=0) or None, len(parsed.chunks)
