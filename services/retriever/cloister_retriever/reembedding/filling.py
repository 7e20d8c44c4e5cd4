"""Filling an edition of a store from the other one: each passage's text, embedded and keyed anew under the same place.

Texts are taken from the index, as they were cut and embedded when their file was ingested; no file is read again. An
attachment's words are written last, so whoever goes on after a crash sees what is done. What was begun is done again,
under the same ids.
"""

import asyncio
from functools import partial

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError, Conflict, NotFound, TooManyRequests, Unavailable
from cloister_common.logs import get_logger
from prometheus_client import Counter

from cloister_retriever.damage import Damaged
from cloister_retriever.editions import Edition, Place
from cloister_retriever.index.entries import entries_of, terms_of, vectors_of
from cloister_retriever.index.passages import Passage, PassageOwner
from cloister_retriever.index.protocol import Entry
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.ingestion.turns import Turn
from cloister_retriever.jobs.queue import Job
from cloister_retriever.keys import PassageKeyring, PassageKeys
from cloister_retriever.reembedding.comparing import Sample, chosen, compared, finds_as_well
from cloister_retriever.reembedding.service import ReembeddingService
from cloister_retriever.reembedding.sources import Sources
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.search.service import SearchService
from cloister_retriever.storage.editions import Comparison, EditionLog, Editions
from cloister_retriever.terms.postings import PostingsWriter
from cloister_retriever.terms.words import language_of
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.models import EmbeddingModels
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService
from cloister_retriever.vector_stores.terms import Words

__all__ = ["Reembedder"]

log = get_logger(__name__)
_PASSAGES = Counter("cloister_reembedded_passages_total", "Passages that were embedded anew.")

_PASSAGES_A_STEP = 64


class _GivenUp(Exception):
    """The edition is not wanted any more."""


class Reembedder:
    """Does the jobs that change a store's editions. Raises `Unavailable` or `TooManyRequests` where trying again later
    makes sense; nothing else."""

    def __init__(
        self,
        *,
        service: ReembeddingService,
        stores: VectorStoreService,
        attachments: AttachmentService,
        search: SearchService,
        keys: PassageKeyring,
        embedder: EmbedderClient,
        models: EmbeddingModels,
        indexes: Indexes,
        rotations: Rotations,
        words: Words,
        editions: EditionLog,
    ) -> None:
        self._service = service
        self._stores = stores
        self._sources = Sources(stores, keys, indexes)
        self._attachments = attachments
        self._search = search
        self._keys = keys
        self._embedder = embedder
        self._models = models
        self._indexes = indexes
        self._rotations = rotations
        self._words = words
        self._editions = editions

    async def is_early(self, job: Job) -> bool:
        """Whether the decision that a job follows from was not made, or not yet: jobs are put before it."""
        opened = await self._opened(job)
        if opened is None:
            return False
        is_there = job.edition in (await self._stores.editions(job.tenant, opened)).all
        return is_there if job.kind == "prune" else not is_there

    async def work(self, job: Job, turn: Turn) -> None:
        """Does ``job`` to its end, or as far as its edition is wanted."""
        assert job.edition is not None
        opened = await self._opened(job)
        if opened is not None and job.kind == "reembed":
            try:
                await self._reembed(job, job.edition, opened, turn)
                return
            except _GivenUp:
                opened = await self._opened(job)
        await self._prune(job, job.edition, opened)

    async def _opened(self, job: Job) -> OpenStore | None:
        """The store, unless it is gone or nothing can be done with it."""
        try:
            return await self._stores.get(job.tenant, job.store_id)
        except (Damaged, NotFound):
            return None

    async def _prune(self, job: Job, edition: Edition, opened: OpenStore | None) -> None:
        """Removes an edition, unless it is one of the store's: then the decision to give it up was never made."""
        if opened is not None and edition in (await self._stores.editions(job.tenant, opened)).all:
            return
        place = Place(job.store_id, edition.number)
        await self._indexes.delete(job.tenant, job.store_id, protection=None, edition=edition)
        await self._words.remove(job.tenant, place)
        for attachment_id in await self._editions.copying(job.tenant, place):
            await self._editions.forget_copying(job.tenant, place, attachment_id)

    async def _reembed(self, job: Job, edition: Edition, opened: OpenStore, turn: Turn) -> None:
        while True:
            try:
                await self._fill(job, edition, opened, turn)
                if not await self._decide(job, edition, opened):
                    return
            except Conflict as conflict:
                if conflict.error_code != "reembedding_changed":
                    await self._fail(job, edition, opened, conflict)
                    return
                # Somebody decided something else at the same moment: look at it, and see what is left to do.
            except (Unavailable, TooManyRequests):
                raise
            except CloisterError as error:
                await self._fail(job, edition, opened, error)
                return

    async def _fail(self, job: Job, edition: Edition, opened: OpenStore, error: CloisterError) -> None:
        log.error("reembedding_failed", store=job.store_id, reason=error.error_code or type(error).__name__)
        editions = await self._state(job, edition, opened)
        if editions.beside == edition:
            await self._stores.change_editions(job.tenant, opened, editions, editions.failed(error.message))

    async def _state(self, job: Job, edition: Edition, opened: OpenStore) -> Editions:
        """The store's editions, of which ``edition`` is one."""
        if await self._opened(job) is None:
            raise _GivenUp
        editions = await self._stores.editions(job.tenant, opened)
        if edition not in editions.all:
            raise _GivenUp
        return editions

    async def _fill(self, job: Job, edition: Edition, opened: OpenStore, turn: Turn) -> None:
        """Brings every file over that the edition lacks."""
        await self._clear_begun(job, edition, opened)
        brought = False
        while missing := await self._service.missing(job.tenant, opened, edition):
            for attached in missing:
                await turn.held()
                editions = await self._state(job, edition, opened)
                source = editions.serving if edition == editions.beside else editions.beside
                if source is None:
                    return  # there is nothing that it could lack any more
                await self._bring(job, opened, attached, source, edition, turn)
                brought = True
        if brought:
            # Searches see for some seconds only then what was written just now.
            await self._stores.note_grown(job.tenant, opened)

    async def _clear_begun(self, job: Job, edition: Edition, opened: OpenStore) -> None:
        """Removes what a process that died had begun of files that are not attached any more."""
        begun = await self._editions.copying(job.tenant, Place(job.store_id, edition.number))
        if begun:
            there = (await self._attachments.ids(job.tenant, job.store_id, opened.key)).values()
            for attachment_id in begun:
                await self._end(job, edition, attachment_id, is_wanted=attachment_id in there)

    async def _bring(
        self, job: Job, opened: OpenStore, attached: Attached, source: Edition, edition: Edition, turn: Turn
    ) -> None:
        attachment_id = attached.record.id
        await self._editions.note_copying(job.tenant, Place(job.store_id, edition.number), attachment_id)
        await self._copy(job, opened, attached, source, edition, turn)
        current = await self._attachments.get_many(job.tenant, job.store_id, opened.key, [attached.record.file_id])
        is_wanted = any(file.record.id == attachment_id for file in current.values())
        await self._end(job, edition, attachment_id, is_wanted=is_wanted)

    async def _end(self, job: Job, edition: Edition, attachment_id: str, *, is_wanted: bool) -> None:
        place = Place(job.store_id, edition.number)
        if not is_wanted:
            await self._indexes.delete(job.tenant, job.store_id, attachment_id, protection=None, edition=edition)
            await self._words.remove(job.tenant, place, attachment_id)
        await self._editions.forget_copying(job.tenant, place, attachment_id)

    async def _copy(
        self, job: Job, opened: OpenStore, attached: Attached, source: Edition, edition: Edition, turn: Turn
    ) -> None:
        """Embeds, seals and writes every passage of a file that opens, then its words."""
        record = attached.record
        found = await self._sources.of(job.tenant, opened, record, source)
        keys = await self._keys.get(job.tenant, opened.key, record.file_id, edition.number)
        if found is None or keys is None or attached.outcome is None:
            return  # the file is being deleted
        count = attached.outcome.passages
        index = self._indexes.of(job.tenant, job.store_id, opened.key, found.protection, edition)
        owner = found.owner._replace(edition=edition.number)
        writer = PostingsWriter("en")
        written: list[str] = []
        for first in range(0, count, _PASSAGES_A_STEP):
            await turn.held()
            await self._state(job, edition, opened)
            positions = range(first, min(first + _PASSAGES_A_STEP, count))
            passages = await found.read(positions)
            if not first:
                writer = PostingsWriter(await asyncio.to_thread(_language, passages))
            entries = await self._entries(keys, owner, list(passages.values()), writer.language, record, edition)
            writer.add(entries[position].terms if position in entries else {} for position in positions)
            await index.upsert(list(entries.values()))
            written += [entry.passage.id for entry in entries.values()]
        if await index.count(owner.place, written) != len(written):
            raise Unavailable("The index has not taken every passage yet.", retry_after=1)
        if len(written) != count:
            # They were not served before either.
            log.error("passages_not_brought_over", file=record.file_id, expected=count, found=len(written))
        postings = await asyncio.to_thread(partial(writer.postings, to_search=not index.by_words))
        await self._words.write(job.tenant, Place(job.store_id, edition.number), record.id, opened.key, postings)
        _PASSAGES.inc(len(written))

    async def _entries(
        self,
        keys: PassageKeys,
        owner: PassageOwner,
        passages: list[Passage],
        language: str,
        record: AttachmentRecord,
        edition: Edition,
    ) -> dict[int, Entry]:
        """Passages as they go into the edition, by position."""
        if not passages:
            return {}
        texts = [passage.embedded for passage in passages]
        exact = await vectors_of(self._embedder, texts, model=edition.model, input_type="passage", bulk=True)
        terms = await asyncio.to_thread(terms_of, keys, passages, language, record.file_name)
        entries = await asyncio.to_thread(entries_of, keys, owner, self._rotations, passages, exact, terms)
        return {entry.passage.position: entry for entry in entries}

    # What follows

    async def _decide(self, job: Job, edition: Edition, opened: OpenStore) -> bool:
        """Compares an edition that has just been filled, and has it searched if that is wanted; whether it was."""
        editions = await self._state(job, edition, opened)
        if edition != editions.beside:
            return False
        if not editions.ready:
            comparison = await self._compare(job, opened, editions.serving, edition)
            editions = await self._stores.change_editions(job.tenant, opened, editions, editions.compared(comparison))
            log.info("reembedding_ready", store=job.store_id, edition=edition.number)
        if not job.switch and not (editions.switching == "auto" and await self._is_as_good(job, opened, editions)):
            return False
        await self._stores.change_editions(job.tenant, opened, editions, editions.switched())
        log.info("reembedding_switched", store=job.store_id, edition=edition.number)
        return True

    async def _compare(self, job: Job, opened: OpenStore, before: Edition, after: Edition) -> Comparison | None:
        """How both find samples; None if the old one cannot be searched any more."""
        if not await self._models.serves(before.model):
            return None
        files = {file.record.id: file for file in await self._attachments.list(job.tenant, job.store_id, opened.key)}
        counts = [(name, file.outcome.passages) for name, file in files.items() if file.outcome is not None]
        samples: list[Sample] = []
        for attachment_id, position in chosen(counts, job.name):
            record = files[attachment_id].record
            found = await self._sources.of(job.tenant, opened, record, after)
            passages = {} if found is None else await found.read(range(position, position + 1))
            samples += [(record.file_id, position, passage.text) for passage in passages.values()]
        return await compared(self._search, job.tenant, opened, before, after, samples)

    async def _is_as_good(self, job: Job, opened: OpenStore, editions: Editions) -> bool:
        """Whether the edition beside may be searched without anybody being asked."""
        if editions.comparison is None or finds_as_well(editions.comparison):
            return True
        files = await self._attachments.list(job.tenant, job.store_id, opened.key)
        return not any(file.outcome.passages for file in files if file.outcome is not None)


def _language(passages: dict[int, Passage]) -> str:
    return language_of("\n".join(passage.text for passage in passages.values()))
