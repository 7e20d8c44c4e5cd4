"""What Milvus Lite needs so that one store's rows cost no other store's searches anything."""

import secrets
from collections.abc import AsyncIterator, Iterator
from functools import partial

import numpy as np
import pytest
from cloister_retriever.index.collection import PassageCollection
from cloister_retriever.index.connection import MilvusConnection
from cloister_retriever.index.protocol import Entry, Question
from cloister_retriever.index.rows import row_of
from cloister_retriever.settings import MilvusSettings
from pymilvus import MilvusClient

from tests.integration.retriever.test_milvus import DIMENSIONS, ids_of, row
from tests.support.milvus import MilvusLite

QUERY = Question(np.eye(DIMENSIONS, dtype=np.float32)[3], None)


@pytest.fixture
async def connection(milvus_lite: MilvusLite) -> AsyncIterator[MilvusConnection]:
    connection = MilvusConnection(MilvusSettings(uri=milvus_lite.uri))
    yield connection
    await connection.close()


@pytest.fixture
async def collection(connection: MilvusConnection) -> AsyncIterator[PassageCollection]:
    collection = PassageCollection(connection, f"model-{secrets.token_hex(4)}")
    yield collection
    await connection.run(lambda client: client.drop_alias(collection.alias))
    await connection.run(lambda client: client.drop_collection(f"{collection.alias}_v1"))


def apart(count: int) -> Iterator[Entry]:
    """Rows whose vectors differ. A graph of many that are the same falls into islands, from which no search comes."""
    source = np.random.default_rng(5)
    for number in range(count):
        vector = source.standard_normal(DIMENSIONS)
        yield row(number)._replace(dense=(vector / np.linalg.norm(vector)).tolist())


async def partitions(connection: MilvusConnection, collection: PassageCollection) -> set[str]:
    return set(await connection.run(lambda client: client.list_partitions(collection.alias)))


async def test_each_store_has_a_partition_and_takes_it_along_when_it_goes(
    connection: MilvusConnection, collection: PassageCollection
) -> None:
    rows = [row(number, store) for store in ("vs_1", "vs_2") for number in range(5)]
    await collection.upsert(rows)
    assert await partitions(connection, collection) == {"_default", "vs_1", "vs_2"}

    def stores_in(partition: str, client: MilvusClient) -> list[str]:
        found = client.query(collection.alias, "position >= 0", ["store_id"], partition_names=[partition])
        return [str(one["store_id"]) for one in found]

    for store in ("vs_1", "vs_2"):
        assert await connection.run(partial(stores_in, store)) == [store] * 5
    await collection.delete("vs_1")
    assert await partitions(connection, collection) == {"_default", "vs_2"}
    assert await collection.count("vs_1", ids_of(rows, "vs_1")) == 0
    assert await collection.count("vs_2", ids_of(rows, "vs_2")) == 5
    nothing = await collection.search("vs_1", QUERY, limit=5, attachment_ids=None, fresh=True)
    assert (nothing.hits, nothing.is_all) == ([], True)
    await collection.delete("vs_1")  # once more, as a worker does that goes on after a crash


async def test_rows_are_written_to_segments_before_there_are_many(
    milvus_lite: MilvusLite, collection: PassageCollection
) -> None:
    def segments() -> int:
        data = milvus_lite.folder / "data"
        return sum(f"{collection.alias}_v1" in str(path) for path in data.rglob("partitions/vs_1/**/*.parquet"))

    rows = list(apart(600))
    await collection.upsert(rows[:100])
    assert segments() == 0
    await collection.upsert(rows[100:])
    assert segments() > 0
    assert await collection.count("vs_1", ids_of(rows)) == 600
    found = await collection.search("vs_1", QUERY, limit=100, attachment_ids=None, fresh=True)
    assert len({one.passage.id for one in found.hits} & set(ids_of(rows))) == 100


async def test_rows_of_the_version_before_are_found_counted_and_deleted(
    connection: MilvusConnection, collection: PassageCollection
) -> None:
    await collection.upsert([row(0, "vs_other")])
    old = [row(number) for number in range(10)]
    await connection.run(lambda client: client.upsert(collection.alias, [dict(row_of(one)) for one in old]))
    found = await collection.search("vs_1", QUERY, limit=50, attachment_ids=None, fresh=True)
    assert {one.passage.id for one in found.hits} == set(ids_of(old))
    await collection.upsert(old[:6])  # the file is ingested again, and shorter
    assert await collection.count("vs_1", ids_of(old)) == 10
    await collection.delete("vs_1", "vsf_1", from_position=6)
    assert await collection.count("vs_1", ids_of(old)) == 6
    found = await collection.search("vs_1", QUERY, limit=50, attachment_ids=None, fresh=True)
    assert sorted(one.passage.position for one in found.hits) == list(range(6))
    await collection.delete("vs_1")
    assert await collection.count("vs_1", ids_of(old)) == 0
    assert await collection.count("vs_other", ids_of([row(0, "vs_other")])) == 1
