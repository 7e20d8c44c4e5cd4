"""Where the rows of a vector store lie in Milvus, and what a write or a removal asks of it there.

A Milvus server filters rows in C++ and indexes what it has taken in by itself, so all stores share one partition.
Milvus Lite is a program in Python that looks at every row of the partitions that a call names, and at those that it
has not yet written to a segment with several times the care (35 ms for a thousand). So in it every store has a
partition of its own, and nobody's search looks at another store's rows; rows are flushed every few hundred; and what
is to be deleted is found within the partition, since a deletion by a filter looks at all rows there are.

Rows that lie in the default partition of a Milvus Lite were written by the version before. They are found there, and
move when their file is ingested again.
"""

from collections.abc import Sequence
from typing import Protocol

from pymilvus import MilvusClient, MilvusException

from cloister_retriever.index.quoting import all_of, equals, one_of
from cloister_retriever.index.rows import Row

__all__ = ["Partitioned", "Placement", "Shared"]

_DEFAULT = "_default"
_FLUSH_ROWS = 512
"""Rows and deletions between two flushes. A flush of so many takes 0.1 s; before it they cost a search of their own
store up to 20 ms, and one of another store 0.5 ms."""

_IDS_A_CALL = 1000
"""Ids in one filter expression: about 60 kB."""


class Placement(Protocol):
    """How a Milvus keeps the rows of vector stores apart. Its methods block, and raise what pymilvus raises."""

    def scope(self, store_id: str) -> list[str] | None:
        """The partitions that a store's rows are in, or None if that says nothing."""

    def upsert(self, client: MilvusClient, collection: str, rows: Sequence[Row], *, timeout: float) -> None:
        """Writes rows of any stores."""

    def delete(
        self, client: MilvusClient, collection: str, store_id: str, condition: str | None, *, timeout: float
    ) -> None:
        """Removes the rows of a store of which ``condition`` is true, or all."""


class Shared:
    """All stores in one partition: a Milvus server."""

    def scope(self, store_id: str) -> list[str] | None:
        return None

    def upsert(self, client: MilvusClient, collection: str, rows: Sequence[Row], *, timeout: float) -> None:
        client.upsert(collection, list(rows), timeout=timeout)

    def delete(
        self, client: MilvusClient, collection: str, store_id: str, condition: str | None, *, timeout: float
    ) -> None:
        client.delete(collection, filter=_of_store(store_id, condition), timeout=timeout)


class Partitioned:
    """A partition for each store: Milvus Lite, which has one writer at a time."""

    def __init__(self) -> None:
        self._unflushed = 0

    def scope(self, store_id: str) -> list[str] | None:
        return [store_id, _DEFAULT]

    def upsert(self, client: MilvusClient, collection: str, rows: Sequence[Row], *, timeout: float) -> None:
        for store_id in dict.fromkeys(row["store_id"] for row in rows):
            of_store = [row for row in rows if row["store_id"] == store_id]
            self._make(client, collection, store_id, timeout=timeout)
            client.upsert(collection, of_store, partition_name=store_id, timeout=timeout)
        self._written(client, collection, len(rows), timeout=timeout)

    def delete(
        self, client: MilvusClient, collection: str, store_id: str, condition: str | None, *, timeout: float
    ) -> None:
        for partition in (store_id, _DEFAULT):
            if condition is None and partition == store_id:
                if client.has_partition(collection, partition, timeout=timeout):
                    client.drop_partition(collection, partition, timeout=timeout)
                continue
            found = client.query(
                collection,
                filter=_of_store(store_id, condition),
                output_fields=["id"],
                partition_names=[partition],
                timeout=timeout,
            )
            ids = [str(row["id"]) for row in found]
            for first in range(0, len(ids), _IDS_A_CALL):
                some = one_of("id", ids[first : first + _IDS_A_CALL])
                client.delete(collection, filter=some, partition_name=partition, timeout=timeout)
            self._written(client, collection, len(found), timeout=timeout)

    def _make(self, client: MilvusClient, collection: str, partition: str, *, timeout: float) -> None:
        if client.has_partition(collection, partition, timeout=timeout):
            return
        try:
            client.create_partition(collection, partition, timeout=timeout)
        except MilvusException:
            # Another process may have made it in this moment; then all is well, else this is the error.
            if not client.has_partition(collection, partition, timeout=timeout):
                raise

    def _written(self, client: MilvusClient, collection: str, rows: int, *, timeout: float) -> None:
        self._unflushed += rows
        if self._unflushed >= _FLUSH_ROWS:
            client.flush(collection, timeout=timeout)
            self._unflushed = 0


def _of_store(store_id: str, condition: str | None) -> str:
    store = equals("store_id", store_id)
    return store if condition is None else all_of(store, condition)
