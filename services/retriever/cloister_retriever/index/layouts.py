"""The index that services use: the collection that new passages go into, and the one of before beside it.

A server with sparse vectors has the collection with keyed terms; what an installation had before it came stays in the
collection without them, is found there by meaning alone, and moves when its file is attached again. An ingestion that
began before and goes on now leaves rows in both: the count shows it, and the worker clears and repeats it.
A server without sparse vectors has the collection without terms and no other. Once, a line of the log says so.
"""

import asyncio
from collections.abc import Sequence

from cloister_common.logs import get_logger
from prometheus_client import Gauge

from cloister_retriever.index.collection import Layout, PassageCollection
from cloister_retriever.index.connection import MilvusConnection
from cloister_retriever.index.protocol import Entry, Files, Found, Question

__all__ = ["MilvusIndex"]

log = get_logger(__name__)
_BY_WORDS = Gauge("cloister_search_by_words", "1 if passages are also found by words, 0 if by their meaning alone.")


class MilvusIndex:
    """Passages of one embedding model in Milvus.

    Args:
        connection: The server.
        model: The embedding model's public name.
    """

    def __init__(self, connection: MilvusConnection, model: str) -> None:
        self._connection = connection
        self._dense = PassageCollection(connection, model, Layout.DENSE)
        self._hybrid = PassageCollection(connection, model, Layout.HYBRID)
        self._collections: list[PassageCollection] = []

    async def upsert(self, entries: Sequence[Entry]) -> None:
        newest, *_ = await self._all()
        await newest.upsert(entries)

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        for collection in await self._all():
            await collection.delete(store_id, attachment_id, from_position=from_position)

    async def count(self, store_id: str, ids: Sequence[str]) -> int:
        return sum([await collection.count(store_id, ids) for collection in await self._all()])

    async def search(
        self,
        store_id: str,
        question: Question,
        *,
        limit: int,
        attachment_ids: Sequence[str] | None,
        fresh: bool,
        files: Files | None = None,
    ) -> Found:
        parts = await asyncio.gather(
            *(
                collection.search(
                    store_id, question, limit=limit, attachment_ids=attachment_ids, fresh=fresh, files=files
                )
                for collection in await self._all()
            )
        )
        return Found([hit for part in parts for hit in part.hits], is_all=all(part.is_all for part in parts))

    async def _all(self) -> list[PassageCollection]:
        """The collections that this server has or can have, the newest first."""
        if not self._collections:
            if (await self._connection.ask_capabilities()).sparse_vectors:
                # One that is not there costs a question each time, so it is asked after once.
                has_dense = await self._connection.run(lambda client: client.has_collection(self._dense.alias))
                self._collections = [self._hybrid, self._dense] if has_dense else [self._hybrid]
                _BY_WORDS.set(1)
            else:
                log.warning("search_by_meaning_alone", why="this Milvus has no sparse vectors: 2.4 is the first")
                self._collections = [self._dense]
                _BY_WORDS.set(0)
        return self._collections
