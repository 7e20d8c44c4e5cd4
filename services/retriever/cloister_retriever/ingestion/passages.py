"""The passages of one file on their way into an index: embedded, sealed and written in steps, and their words last."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from cloister_common.clients.embedder import EmbedderClient

from cloister_retriever.index.entries import entries_of, terms_of, vectors_of
from cloister_retriever.index.passages import Passage
from cloister_retriever.index.protocol import Index
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.ingestion.paying import Paying
from cloister_retriever.ingestion.watch import Watch
from cloister_retriever.keys import PassageKeys
from cloister_retriever.parsing.parser import Parsed
from cloister_retriever.pictures.ingestion import mark_of
from cloister_retriever.terms.postings import PostingsWriter
from cloister_retriever.terms.words import language_of
from cloister_retriever.vector_stores.ingestions import Ingestion
from cloister_retriever.vector_stores.terms import Words

__all__ = ["PassageWriter"]

_PASSAGES_A_STEP = 64
"""Embedded, sealed and written together: small enough that a cancellation is seen soon, and that another tenant's file
gets its turn."""

_FEW_PASSAGES = 4
"""So short a file is embedded with people's queries, before the passages of long ones: it costs them what a query does,
and there are no more such files at a time than turns."""


class PassageWriter:
    """Writes the passages of files.

    Args:
        embedder: Gives their vectors.
        rotations: Of all stores.
        words: Keeps their words.
        paying: Counts what they are embedded with.
    """

    def __init__(self, embedder: EmbedderClient, rotations: Rotations, words: Words, paying: Paying) -> None:
        self._embedder = embedder
        self._rotations = rotations
        self._words = words
        self._paying = paying

    async def index(
        self,
        index: Index,
        ingestion: Ingestion,
        keys: PassageKeys,
        parsed: Parsed,
        watch: Watch,
        between: Callable[[], Awaitable[None]],
    ) -> int:
        """Embeds, seals and writes every passage; returns what they take in the index, in bytes.

        Args:
            index: Where they go.
            ingestion: What they are of.
            keys: What seals them.
            parsed: The file's text and how it was cut.
            watch: Is told how far it is.
            between: Called before each step; raises where nobody wants the result any more.
        """
        language = await asyncio.to_thread(language_of, parsed.text)
        count = partial(self._paying.count, ingestion)
        writer = PostingsWriter(language)
        model, file_name = ingestion.edition.model, ingestion.attachment.file_name
        bulk = len(parsed.chunks) > _FEW_PASSAGES
        usage = 0
        for first in range(0, len(parsed.chunks), _PASSAGES_A_STEP):
            watch.passage(first, len(parsed.chunks))
            await between()
            passages = _passages(parsed, first, first + _PASSAGES_A_STEP)
            texts = [passage.embedded for passage in passages]
            exact = await vectors_of(self._embedder, texts, model=model, input_type="passage", bulk=bulk, count=count)
            terms = await asyncio.to_thread(terms_of, keys, passages, language, file_name)
            entries = await asyncio.to_thread(
                entries_of, keys, ingestion.owner, self._rotations, passages, exact, terms
            )
            writer.add(terms)
            usage += sum(entry.stored_bytes for entry in entries)
            await index.upsert(entries)
        postings = await asyncio.to_thread(partial(writer.postings, to_search=not index.by_words))
        await self._words.write(ingestion.tenant, ingestion.place, ingestion.attachment.id, ingestion.key, postings)
        return usage


def _passages(parsed: Parsed, first: int, end: int) -> list[Passage]:
    return [
        Passage(
            position=first + number,
            text=parsed.text[chunk.start : chunk.end],
            start=chunk.start,
            end=chunk.end,
            page=chunk.page,
            section=chunk.section,
            heading=chunk.heading,
            picture=None if chunk.picture is None else mark_of(parsed, chunk.picture),
        )
        for number, chunk in enumerate(parsed.chunks[first:end])
    ]
