"""Many files by one request: whoever is killed, cancels or deletes in the middle, nothing is lost, doubled or left."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder

from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker, RetrieverProcess
from tests.support.waiting import wait_until

FILES = 40


@pytest.fixture
def pods(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tmp_path: Path
) -> tuple[RetrieverProcess, RetrieverProcess]:
    """Two over one object store: one that answers and works, one that only works."""
    changes = {"protection": {"default": "sealed"}, "blobs": {"url": (tmp_path / "shared").as_uri()}}
    api = make_retriever(milvus_lite.uri, name="api", **changes)
    worker = make_retriever(milvus_lite.uri, name="worker", role="ingest", **changes)
    return api.start(), worker.start()


def uploaded(sdk: openai.OpenAI) -> list[str]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda number: upload(sdk, f"{number}.txt", b"word%d" % number), range(FILES)))


def test_a_batch_is_read_whole_and_once_although_a_worker_is_killed_in_the_middle(
    pods: tuple[RetrieverProcess, RetrieverProcess], fake_embedder: FakeEmbedder, tmp_path: Path, tenant: str
) -> None:
    api, worker = pods
    sdk = api.openai(tenant)
    files = uploaded(sdk)
    store = sdk.vector_stores.create(name="s").id
    fake_embedder.delay_seconds = 0.3  # so that there is a middle, however fast the machine is
    batch = sdk.vector_stores.file_batches.create(
        store, files=[{"file_id": file, "attributes": {"number": number}} for number, file in enumerate(files)]
    )
    assert batch.file_counts.total == FILES

    def some_are_done() -> bool:
        counts = sdk.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store).file_counts
        return 0 < counts.completed < FILES

    wait_until(some_are_done, seconds=60, what="some files are read")
    worker.kill()
    fake_embedder.delay_seconds = 0.0
    state = ingested(sdk, store)
    assert (state.file_counts.completed, state.file_counts.total) == (FILES, FILES)
    assert state.model_extra is not None
    assert state.model_extra["progress"]["passages_done"] == FILES
    for number in (0, FILES // 2, FILES - 1):
        found = sdk.vector_stores.search(store, query=f"word{number}", max_num_results=50).data
        assert found[0].file_id == files[number]
        assert len({one.file_id for one in found}) == len(found) == FILES
        assert found[0].attributes == {"number": number}
    wait_until(lambda: not list((tmp_path / "shared" / "queue").glob("*")), seconds=30, what="no job is left")


def test_a_batch_cancelled_and_a_store_deleted_in_the_middle_leave_nothing(
    pods: tuple[RetrieverProcess, RetrieverProcess], tmp_path: Path, tenant: str
) -> None:
    api, _ = pods
    sdk, stranger = api.openai(tenant), api.openai("proj_stranger")
    files = uploaded(sdk)
    store, other = (sdk.vector_stores.create(name=name).id for name in ("s", "t"))
    batch = sdk.vector_stores.file_batches.create(store, file_ids=files)
    with pytest.raises(openai.NotFoundError):
        stranger.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    with pytest.raises(openai.NotFoundError):
        stranger.vector_stores.file_batches.create(stranger.vector_stores.create(name="u").id, file_ids=files)
    cancelled = sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    assert cancelled.file_counts.in_progress == 0
    assert cancelled.file_counts.cancelled + cancelled.file_counts.completed == FILES
    sdk.vector_stores.file_batches.create(other, file_ids=files)
    sdk.vector_stores.delete(other)
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.retrieve(other)
    shared = tmp_path / "shared"
    wait_until(lambda: not list((shared / "queue").glob("*")), seconds=60, what="no job is left")
    assert [path for path in shared.rglob("*") if other in path.as_posix() and path.is_file()] == []
    packs = [path for path in (shared / "t").rglob("packs/*/*/*/*") if path.is_file()]
    assert len(packs) == cancelled.file_counts.completed, "of those that were read before"
