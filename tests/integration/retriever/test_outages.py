"""Crashes and outages: work that was acknowledged is finished, once; what is down is said and comes back."""

import secrets
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cloister_common.clients.call import AWAY_SECONDS
from cloister_common.errors import Unavailable
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import free_port, served
from openai.types import VectorStoreSearchResponse

from tests.support.documents import ingested, place, upload
from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.milvus import MilvusLite, MilvusServer235, connected
from tests.support.retriever import RetrieverMaker, RetrieverProcess
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until

LONG = "\n\n".join(f"Paragraph {number} speaks about topic{number} and nothing else at all." for number in range(400))


def rows_of(milvus_uri: str, store_id: str) -> list[str]:
    """The ids of the rows Milvus has for a store."""
    client = connected(milvus_uri)
    try:
        return [row["id"] for _, row in found_rows(client, store_id)]
    finally:
        client.close()


def found_rows(client: Any, store_id: str) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a store, whole, each with its collection: there is one for each embedding model."""
    found = []
    for collection in client.list_collections():
        if collection.startswith("cloister_"):
            client.load_collection(collection)
            rows = client.query(
                collection,
                filter=f'store_id == "{store_id}"',
                output_fields=["*"],
                consistency_level="Strong",
                limit=10_000,
            )
            found += [(collection, row) for row in rows]
    return found


@pytest.mark.parametrize("milvus", ["milvus_lite", "milvus_235"])
def test_a_retriever_killed_while_it_ingests_finishes_after_its_restart(
    request: pytest.FixtureRequest,
    make_retriever: RetrieverMaker,
    fake_embedder: FakeEmbedder,
    tenant: str,
    milvus: str,
) -> None:
    uri = request.getfixturevalue(milvus).uri
    retriever: RetrieverProcess = make_retriever(uri).start()
    sdk = retriever.openai(tenant)
    store = sdk.vector_stores.create(name="s").id
    files = [upload(sdk, f"{number}.txt", LONG.encode()) for number in range(3)]
    fake_embedder.delay_seconds = 0.3
    try:
        sdk.vector_stores.file_batches.create(store, file_ids=files)
        seen = fake_embedder.texts
        wait_until(lambda: fake_embedder.texts > seen + 64, seconds=30, what="passages are being embedded")
        retriever.kill()
    finally:
        fake_embedder.delay_seconds = 0.0
    retriever.start()
    state = ingested(sdk, store)
    assert (state.file_counts.completed, state.file_counts.total) == (3, 3)
    rows = rows_of(uri, store)
    assert len(rows) == len(set(rows))
    passages = set()
    for number in (0, 199, 399):
        found = sdk.vector_stores.search(store, query=f"topic{number}", max_num_results=50).data
        passages |= {(one.file_id, place(one)["index"]) for one in found}
        assert len({(one.file_id, place(one)["index"]) for one in found}) == len(found)
    assert len(rows) % 3 == 0, "three equal files have equally many passages"
    assert not list((retriever.blobs / "queue").rglob("*-*"))


def test_two_workers_share_one_queue(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tmp_path: Path, tenant: str
) -> None:
    blobs = {"url": (tmp_path / "shared").as_uri()}
    first = make_retriever(milvus_lite.uri, name="first", blobs=blobs).start()
    second = make_retriever(milvus_lite.uri, name="second", blobs=blobs, role="ingest").start()
    sdk = first.openai(tenant)
    store = sdk.vector_stores.create(name="s").id
    files = [upload(sdk, f"{number}.txt", f"document number{number}".encode()) for number in range(12)]
    sdk.vector_stores.file_batches.create(store, file_ids=files)
    assert ingested(sdk, store).file_counts.completed == 12
    assert len(rows_of(milvus_lite.uri, store)) == 12
    done = [retriever.log.read_text().count('"file_ingested"') for retriever in (first, second)]
    assert sum(done) == 12
    assert httpx.get(f"{second.url}/v1/files", headers=second.headers(tenant)).status_code == 404


@pytest.mark.parametrize("server", [MilvusLite, MilvusServer235])
def test_milvus_may_go_and_come_back(
    server: type[MilvusLite] | type[MilvusServer235], make_retriever: RetrieverMaker, tmp_path: Path, tenant: str
) -> None:
    folder = tmp_path / "milvus"
    folder.mkdir()
    milvus = server(folder)
    milvus.start()
    try:
        retriever = make_retriever(milvus.uri).start()
        sdk = retriever.openai(tenant)
        store = sdk.vector_stores.create(name="s", file_ids=[upload(sdk, "a.txt", b"the zebra eats grass")]).id
        doomed = upload(sdk, "b.txt", b"the zebra is doomed")
        sdk.vector_stores.files.create(file_id=doomed, vector_store_id=store)
        assert ingested(sdk, store).file_counts.completed == 2
        milvus.kill()

        with pytest.raises(openai.APIStatusError) as down:
            sdk.vector_stores.search(store, query="zebra")
        assert down.value.status_code == 503
        assert int(down.value.response.headers["retry-after"]) > 0
        ready = httpx.get(f"{retriever.url}/readyz", timeout=10)
        assert ready.status_code == 503
        assert ready.json()["parts"]["milvus"] != "ready"
        assert ready.json()["parts"]["object_store"] == "ready"
        late = upload(sdk, "late.txt", b"the lion sleeps")
        sdk.vector_stores.files.create(file_id=late, vector_store_id=store)
        sdk.files.delete(doomed)
        assert sdk.vector_stores.retrieve(store).file_counts.in_progress == 1

        milvus.start()
        assert ingested(sdk, store, seconds=120).file_counts.completed == 2
        found = wait_until(lambda: _search(sdk, store, "lion sleeps"), seconds=90, what="the search answers again")
        assert found[0].file_id == late
        assert doomed not in {one.file_id for one in found}
        # (The worker pauses for up to fifteen seconds between two tries, and a question costs Milvus a connection.)
        wait_until(
            lambda: len(rows_of(milvus.uri, store)) == 2,
            seconds=120,
            what="the deleted file's passages are gone",
            every=0.5,
        )
        wait_until(
            lambda: httpx.get(f"{retriever.url}/readyz", timeout=10).status_code == 200, what="all of it is ready again"
        )
    finally:
        milvus.stop()


async def test_the_gateway_learns_soon_that_nothing_can_be_searched(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str
) -> None:
    retriever = make_retriever(milvus_lite.uri, embedder={"url": f"http://127.0.0.1:{free_port()}"}, role="api").start()
    store = retriever.openai(tenant).vector_stores.create(name="s").id
    client = retriever.client()
    with stopwatch() as waiting, pytest.raises(Unavailable) as away:
        await client.search(tenant, [store], "zebra")
    await client.close()
    assert away.value.error_code == "embedder_unavailable"
    assert waiting.seconds < 2 * AWAY_SECONDS, "it does not try again what the retriever has tried"


def test_an_embedder_that_fails_delays_and_loses_nothing(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str
) -> None:
    port = free_port()
    embedder = {"url": f"http://127.0.0.1:{port}"}
    retriever = make_retriever(milvus_lite.uri, embedder=embedder).start()
    sdk = retriever.openai(tenant)
    file_id = upload(sdk, "a.txt", b"the zebra eats grass")
    store = sdk.vector_stores.create(name="s", file_ids=[file_id]).id
    wait_until(
        lambda: "ingestion_waits" in retriever.log.read_text(), seconds=60, what="the worker waits for the embedder"
    )
    assert sdk.vector_stores.retrieve(store).status == "in_progress"
    with stopwatch() as waiting, pytest.raises(openai.APIStatusError) as away:
        sdk.vector_stores.search(store, query="zebra")
    assert (away.value.status_code, away.value.code) == (503, "embedder_unavailable")
    assert int(away.value.response.headers["retry-after"]) > 0
    assert waiting.seconds < 2 * AWAY_SECONDS, "whoever waits is told soon"
    with served(FakeEmbedder(EMBEDDER_TOKEN), port):
        assert ingested(sdk, store).file_counts.completed == 1
        assert sdk.vector_stores.search(store, query="zebra").data[0].file_id == file_id


def test_a_wrong_root_key_stops_the_start_with_a_sentence(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker
) -> None:
    retriever = make_retriever(milvus_lite.uri).start()
    retriever.stop()
    (retriever.folder / "root.key").write_text(secrets.token_hex(32))
    with pytest.raises(AssertionError, match="root_key_file"):
        retriever.start()


def test_a_row_that_was_tampered_with_is_not_served(
    milvus_lite: MilvusLite, lite_retriever: RetrieverProcess, tenant: str
) -> None:
    sdk = lite_retriever.openai(tenant)
    files = [upload(sdk, f"{n}.txt", f"the zebra number{n} eats grass".encode()) for n in range(3)]
    store = sdk.vector_stores.create(name="s", file_ids=files).id
    ingested(sdk, store)
    client = connected(milvus_lite.uri)
    (collection, first), (_, second), (_, third) = found_rows(client, store)
    client.upsert(collection, [{**first, "sealed_passage": second["sealed_passage"]}, {**second, "position": 7}])
    client.close()
    found = sdk.vector_stores.search(store, query="zebra eats grass").data
    assert [one.file_id for one in found] == [third["file_id"]]
    assert "passage_did_not_open" in lite_retriever.log.read_text()


def test_a_row_that_was_copied_is_served_once(
    milvus_lite: MilvusLite, lite_retriever: RetrieverProcess, tenant: str
) -> None:
    sdk = lite_retriever.openai(tenant)
    store = sdk.vector_stores.create(name="s", file_ids=[upload(sdk, "a.txt", b"the zebra eats grass")]).id
    ingested(sdk, store)
    client = connected(milvus_lite.uri)
    [(collection, row)] = found_rows(client, store)
    client.upsert(collection, [{**row, "id": f"psg_copy{number}"} for number in range(5)])
    client.close()
    assert len(sdk.vector_stores.search(store, query="zebra eats grass").data) == 1
    assert "passage_was_copied" in lite_retriever.log.read_text()


def _search(sdk: openai.OpenAI, store: str, query: str) -> list[VectorStoreSearchResponse]:
    try:
        return sdk.vector_stores.search(store, query=query).data
    except openai.InternalServerError:
        return []
