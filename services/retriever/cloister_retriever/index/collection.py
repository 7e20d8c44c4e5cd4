"""The index in Milvus: the collection's schema, its alias, and the operations of `cloister_retriever.index.protocol`.

One collection per embedding model and layout version, behind an alias, so that a new version can be filled beside the
old one and put in its place. Every vector store of every tenant shares it; a filter on the store's random id selects.
There is no partition key on purpose: Milvus 2.3.5 puts *upserted* rows of a collection with a partition key into the
wrong partitions and then does not find them (15 of 16 rows in our test). Nothing is counted by looking at all rows:
what should be there is asked for by its id.

Milvus finds by meaning alone. Milvus 2.3.5 has no sparse vectors; Milvus Lite looks in Python at every row that any
store has, for each search by them; and where they are, how often a passage has each of its terms can be read. So the
words of a store are postings of our own, sealed (`cloister_retriever.vector_stores.terms`).
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from pymilvus import DataType, MilvusClient, MilvusException

from cloister_retriever.index.connection import MilvusConnection, NotPrepared
from cloister_retriever.index.placement import Partitioned, Placement, Shared
from cloister_retriever.index.protocol import Entry, Found, Question, SealedPassage
from cloister_retriever.index.quoting import all_of, equals, none_of, one_of
from cloister_retriever.index.rotation import Vector
from cloister_retriever.index.rows import FIELDS, ID_FIELDS, SEALED_FIELDS, Row, hits_of, row_of

__all__ = ["PassageCollection"]

log = get_logger(__name__)
T = TypeVar("T")

_LAYOUT = 1
_PREPARE_SECONDS = 60.0
"""Milvus 2.3.5 needs 3 s to make a collection and 28 s to load one after a crash."""

_ROWS_A_WRITE = 128
"""About 1.5 MB at 384 dimensions; Milvus's message queue takes 5 MB at once."""

_IDS_A_QUERY = 1000
"""Ids in one filter expression: about 60 kB."""

_MAX_ID = 64
_MAX_SEALED = 65_535
"""Milvus's own limit of a VARCHAR."""


class PassageCollection:
    """Passages of one embedding model in Milvus.

    Args:
        connection: The server.
        model: The embedding model's public name; part of the collection's name.
    """

    by_words = False

    def __init__(self, connection: MilvusConnection, model: str) -> None:
        self._connection = connection
        slug = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:40]
        self.alias = f"cloister_{slug}_{hashlib.sha256(model.encode()).hexdigest()[:8]}"
        self._preparing = asyncio.Lock()
        self._ready = False
        self._dimensions = 0
        """Of the vectors in the collection, once it is ready."""

        self._placement: Placement = Shared()

    async def upsert(self, entries: Sequence[Entry]) -> None:
        for first in range(0, len(entries), _ROWS_A_WRITE):
            await self._write([row_of(entry) for entry in entries[first : first + _ROWS_A_WRITE]])

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        conditions = [] if attachment_id is None else [equals("attachment_id", attachment_id)]
        if from_position is not None:
            conditions.append(f"position >= {int(from_position)}")
        condition = all_of(*conditions) if conditions else None
        self._connection.require_settled()
        await self._run(
            lambda client: self._placement.delete(
                client, self.alias, store_id, condition, timeout=self._connection.timeout
            ),
            write=True,
        )

    async def count(self, store_id: str, ids: Sequence[str]) -> int:
        found = 0
        for first in range(0, len(ids), _IDS_A_QUERY):
            ask = partial(self._count, store_id, ids[first : first + _IDS_A_QUERY])
            found += await self._run(ask) or 0
        return found

    async def read(self, store_id: str, attachment_id: str, ids: Mapping[int, str]) -> list[SealedPassage]:
        rows: list[dict[str, Any]] = []
        names = list(ids.values())
        for first in range(0, len(names), _IDS_A_QUERY):
            some = names[first : first + _IDS_A_QUERY]
            rows += await self._run(partial(self._named, store_id, some, consistency="Strong")) or []
        return [hit.passage for hit in hits_of(store_id, rows)]

    async def search(
        self,
        store_id: str,
        question: Question,
        *,
        limit: int,
        attachment_ids: Sequence[str] | None,
        fresh: bool,
        without: Collection[str] = (),
    ) -> Found:
        condition = equals("store_id", store_id)
        if attachment_ids is not None:
            condition = all_of(condition, one_of("attachment_id", attachment_ids))
        if without:
            condition = all_of(condition, none_of("attachment_id", without))

        async def near(vector: Vector) -> list[dict[str, Any]]:
            return await self._nearest(store_id, vector, condition, limit=limit, fresh=fresh)

        async def named(ids: Sequence[str]) -> list[dict[str, Any]]:
            return await self._run(partial(self._named, store_id, ids)) or []

        nearest, found = await asyncio.gather(
            near(question.dense) if question.dense is not None else _nothing(),
            named(question.ids) if question.ids else _nothing(),
        )
        return Found(hits_of(store_id, [*nearest, *found]), is_all=question.dense is not None and len(nearest) < limit)

    async def _nearest(
        self, store_id: str, vector: Vector, condition: str, *, limit: int, fresh: bool
    ) -> list[dict[str, Any]]:
        """The rows of a store nearest to a vector, of those that ``condition`` lets through."""
        found = await self._run(
            lambda client: client.search(
                self.alias,
                [vector.tolist()],
                anns_field="dense",
                filter=condition,
                limit=limit,
                output_fields=list(FIELDS),
                search_params={"metric_type": "IP", "params": {"ef": max(128, limit)}},
                # Strong consistency takes 0.2 s on a Milvus server, bounded 5 ms.
                consistency_level="Strong" if fresh else "Bounded",
                partition_names=self._placement.scope(store_id),
                timeout=self._connection.timeout,
            ),
            dimensions=len(vector),
        )
        return [{"id": row["id"], **row["entity"]} for row in found[0]] if found else []

    def _named(
        self, store_id: str, ids: Sequence[str], client: MilvusClient, *, consistency: str = "Bounded"
    ) -> list[dict[str, Any]]:
        """The rows of a store with these ids. What was found by words is there already, so none is waited for."""
        rows: list[dict[str, Any]] = client.query(
            self.alias,
            filter=all_of(one_of("id", ids), equals("store_id", store_id)),
            output_fields=["id", *FIELDS],
            consistency_level=consistency,
            partition_names=self._placement.scope(store_id),
            timeout=self._connection.timeout,
        )
        return rows

    def _count(self, store_id: str, ids: Sequence[str], client: MilvusClient) -> int:
        rows = client.query(
            self.alias,
            filter=one_of("id", ids),
            output_fields=["id"],
            consistency_level="Strong",
            partition_names=self._placement.scope(store_id),
            timeout=self._connection.timeout,
        )
        return len(rows)

    async def _write(self, rows: list[Row]) -> None:
        await self._run(
            lambda client: self._placement.upsert(client, self.alias, rows, timeout=self._connection.timeout),
            dimensions=len(rows[0]["dense"]),
            create=True,
            write=True,
        )

    async def _run(
        self,
        call: Callable[[MilvusClient], T],
        *,
        dimensions: int | None = None,
        create: bool = False,
        write: bool = False,
    ) -> T | None:
        """Runs ``call``, preparing the collection where that is needed. None if there is none and none is to be made.

        ``dimensions`` are those of the vectors in ``call``. They are compared at each call: an embedder that is
        replaced while this process lives must not look like an index that is down.
        """
        for attempt in (1, 2):
            if not self._ready and not await self._prepare(dimensions if create else None):
                return None
            if dimensions not in {None, self._dimensions}:
                raise self._other_model(dimensions)
            try:
                return await self._connection.run(call, write=write)
            except NotPrepared:
                self._ready = False
                if attempt == 2:
                    raise self._gone() from None
        return None

    async def _prepare(self, dimensions: int | None) -> bool:
        async with self._preparing:
            if not self._ready:
                self._ready = await self._connection.run(
                    lambda client: self._open(client, dimensions), write=True, seconds=_PREPARE_SECONDS
                )
            return self._ready

    def _open(self, client: MilvusClient, dimensions: int | None) -> bool:
        """Loads the collection, makes it first if ``dimensions`` says how; whether it is there now.

        Milvus makes collection, alias and index one by one. Whoever made them may have died in between, so each is
        looked for.
        """
        if not client.has_collection(self.alias, timeout=self._connection.timeout):
            if dimensions is None:
                return False
            self._create(client, dimensions)
        fields = client.describe_collection(self.alias, timeout=self._connection.timeout)["fields"]
        self._dimensions = next(int(field["params"]["dim"]) for field in fields if field["name"] == "dense")
        if not client.list_indexes(self.alias, "dense", timeout=self._connection.timeout):
            index = client.prepare_index_params()
            index.add_index("dense", index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 200})
            client.create_index(self.alias, index, timeout=_PREPARE_SECONDS)
        client.load_collection(self.alias, timeout=_PREPARE_SECONDS)
        capabilities = self._connection.capabilities
        if capabilities is not None and capabilities.single_writer and isinstance(self._placement, Shared):
            self._placement = Partitioned()
        log.info("passages_loaded", collection=self.alias)
        return True

    def _create(self, client: MilvusClient, dimensions: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for name in ID_FIELDS:
            schema.add_field(name, DataType.VARCHAR, max_length=_MAX_ID, is_primary=name == "id")
        schema.add_field("position", DataType.INT64)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=dimensions)
        for name in SEALED_FIELDS:
            schema.add_field(name, DataType.VARCHAR, max_length=_MAX_SEALED)
        name = f"{self.alias}_v{_LAYOUT}"
        try:
            if not client.has_collection(name, timeout=self._connection.timeout):
                client.create_collection(name, schema=schema, timeout=_PREPARE_SECONDS)
            client.create_alias(name, self.alias, timeout=self._connection.timeout)
        except MilvusException:
            # Another replica may have made it in this moment; then all is well, else this is the error.
            if not client.has_collection(self.alias, timeout=self._connection.timeout):
                raise

    def _other_model(self, dimensions: int | None) -> Conflict:
        return Conflict(
            f"The embedding model now gives {dimensions} numbers a vector, but this index was built with "
            f"{self._dimensions}. Give the new model a new name and ingest the files into a new vector store.",
            code="embedding_model_changed",
        )

    def _gone(self) -> Conflict:
        return Conflict("The index was removed while it was in use. Ingest the files again.")


async def _nothing() -> list[dict[str, Any]]:
    return []
