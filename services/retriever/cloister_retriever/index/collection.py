"""A collection in Milvus: its schema, its alias, and the operations of `cloister_retriever.index.protocol`.

One collection per embedding model and layout, behind an alias, so that a new version can be filled beside the
old one and put in its place. Every vector store of every tenant shares it; a filter on the store's random id selects.
There is no partition key on purpose: Milvus 2.3.5 puts *upserted* rows of a collection with a partition key into the
wrong partitions and then does not find them (15 of 16 rows in our test). Nothing is counted by looking at all rows:
what should be there is asked for by its id.

Layouts: ``DENSE`` has the rotated vectors alone, as all collections had at first, and as a server without sparse
vectors has them; ``HYBRID`` has the keyed terms beside them.
`cloister_retriever.index.layouts` says which are used.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from cloister_common.errors import Conflict
from cloister_common.logs import get_logger
from pymilvus import DataType, MilvusClient, MilvusException

from cloister_retriever.index.connection import MilvusConnection, NotPrepared
from cloister_retriever.index.placement import Partitioned, Placement, Shared
from cloister_retriever.index.protocol import Entry, Files, Found, Question
from cloister_retriever.index.quoting import all_of, equals, none_of, one_of
from cloister_retriever.index.rows import FIELDS, ID_FIELDS, SEALED_FIELDS, Row, hits_of, row_of
from cloister_retriever.terms.weights import TermWeights

__all__ = ["Layout", "PassageCollection"]

log = get_logger(__name__)
T = TypeVar("T")

_PREPARE_SECONDS = 60.0
"""Milvus 2.3.5 needs 3 s to make a collection and 28 s to load one after a crash."""

_ROWS_A_WRITE = 128
"""About 1.5 MB at 384 dimensions; Milvus's message queue takes 5 MB at once."""

_IDS_A_QUERY = 1000
"""Ids in one filter expression: about 60 kB."""

_MAX_ID = 64
_MAX_SEALED = 65_535
"""Milvus's own limit of a VARCHAR."""


class Layout(Enum):
    """What a row has beside the sealed fields. The value is the version in the collection's name."""

    DENSE = 1
    HYBRID = 2


class PassageCollection:
    """Passages of one embedding model in Milvus, in one layout.

    Args:
        connection: The server.
        model: The embedding model's public name; part of the collection's name.
        layout: What its rows have.
    """

    def __init__(self, connection: MilvusConnection, model: str, layout: Layout) -> None:
        self._connection = connection
        self._layout = layout
        slug = re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")[:40]
        model_name = f"cloister_{slug}_{hashlib.sha256(model.encode()).hexdigest()[:8]}"
        self.name = f"{model_name}_v{layout.value}"
        self.alias = model_name if layout is Layout.DENSE else f"{model_name}_{layout.name.lower()}"
        self._preparing = asyncio.Lock()
        self._ready = False
        self._dimensions = 0
        """Of the vectors in the collection, once it is ready."""

        self._placement: Placement = Shared()

    async def upsert(self, entries: Sequence[Entry]) -> None:
        for first in range(0, len(entries), _ROWS_A_WRITE):
            rows = [row_of(entry, self._layout is Layout.HYBRID) for entry in entries[first : first + _ROWS_A_WRITE]]
            await self._write(rows)

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        conditions = [] if attachment_id is None else [equals("attachment_id", attachment_id)]
        if from_position is not None:
            conditions.append(f"position >= {int(from_position)}")
        condition = all_of(*conditions) if conditions else None
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
        condition = equals("store_id", store_id)
        if attachment_ids is not None:
            condition = all_of(condition, one_of("attachment_id", attachment_ids))
        if files is not None:
            condition = all_of(condition, (none_of if files.excluded else one_of)("file_id", files.ids))
        halves = []
        half = partial(self._half, store_id, condition, limit=limit, fresh=fresh)
        if question.dense is not None:
            vector = question.dense.tolist()
            search = {"metric_type": "IP", "params": {"ef": max(128, limit)}}
            halves.append(half("dense", vector, search, dimensions=len(vector)))
        if question.terms is not None and self._layout is Layout.HYBRID:
            halves.append(half("terms", question.terms, {"metric_type": "IP"}))
        parts = await asyncio.gather(*halves)
        hits = hits_of(store_id, (row for rows in parts for row in rows))
        return Found(hits, is_all=not parts or len(parts[0]) < limit)

    async def _half(
        self,
        store_id: str,
        condition: str,
        field: str,
        value: list[float] | TermWeights,
        search: dict[str, Any],
        *,
        limit: int,
        fresh: bool,
        dimensions: int | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of a store nearest to ``value`` by one field."""
        fields = [*FIELDS, "terms"] if self._layout is Layout.HYBRID else list(FIELDS)
        found = await self._run(
            lambda client: client.search(
                self.alias,
                [value],
                anns_field=field,
                filter=condition,
                limit=limit,
                output_fields=fields,
                search_params=search,
                # Strong consistency takes 0.2 s on a Milvus server, bounded 5 ms.
                consistency_level="Strong" if fresh else "Bounded",
                partition_names=self._placement.scope(store_id),
                timeout=self._connection.timeout,
            ),
            dimensions=dimensions,
        )
        return [{"id": row["id"], **row["entity"]} for row in found[0]] if found else []

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
        indexes: dict[str, dict[str, Any]] = {
            "dense": {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 200}}
        }
        if self._layout is Layout.HYBRID:
            indexes["terms"] = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"}
        for field, how in indexes.items():
            if not client.list_indexes(self.alias, field, timeout=self._connection.timeout):
                index = client.prepare_index_params()
                index.add_index(field, **how)
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
        if self._layout is Layout.HYBRID:
            schema.add_field("terms", DataType.SPARSE_FLOAT_VECTOR)
        try:
            if not client.has_collection(self.name, timeout=self._connection.timeout):
                client.create_collection(self.name, schema=schema, timeout=_PREPARE_SECONDS)
            client.create_alias(self.name, self.alias, timeout=self._connection.timeout)
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
