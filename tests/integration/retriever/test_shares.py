"""One tenant's files do not hold up another's: neither many small ones, nor slow ones on every worker."""

import time

from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker
from tests.support.waiting import wait_until

OTHER = "proj_quiet"
SLOW = b"words of a long file " * 200_000
"""4 MB: half a minute of a processor for each."""


def test_a_file_is_read_while_many_of_another_tenant_wait(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str
) -> None:
    retriever = make_retriever(milvus_lite.uri).start()
    busy, quiet = retriever.openai(tenant), retriever.openai(OTHER)
    files = [upload(busy, f"{number}.txt", b"a note") for number in range(20)]
    file = upload(quiet, "q.txt", b"one line")
    crowd, store = busy.vector_stores.create(name="busy").id, quiet.vector_stores.create(name="quiet").id
    busy.vector_stores.file_batches.create(crowd, file_ids=files)
    quiet.vector_stores.files.create(file_id=file, vector_store_id=store)
    assert ingested(quiet, store).file_counts.completed == 1
    assert busy.vector_stores.retrieve(crowd).file_counts.in_progress > 10
    busy.vector_stores.delete(crowd)


def test_slow_files_on_every_worker_stand_aside_for_another_tenants_and_go_on(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, tenant: str
) -> None:
    changes = {"workers": 2, "turn_seconds": 1, "parse_seconds": 120}
    retriever = make_retriever(milvus_lite.uri, ingestion=changes).start()
    busy, quiet = retriever.openai(tenant), retriever.openai(OTHER)
    slow = [upload(busy, f"{number}.txt", SLOW) for number in range(3)]
    crowd, store = busy.vector_stores.create(name="busy").id, quiet.vector_stores.create(name="quiet").id
    busy.vector_stores.file_batches.create(crowd, file_ids=slow)
    with retriever.metrics() as metrics:
        wait_until(
            lambda: "cloister_ingest_workers_busy 2.0" in metrics.get("/metrics").text, seconds=30, what="both work"
        )
        started = time.monotonic()
        file = upload(quiet, "q.txt", b"one line")
        quiet.vector_stores.files.create(file_id=file, vector_store_id=store)
        assert ingested(quiet, store, seconds=30).file_counts.completed == 1
        assert time.monotonic() - started < 30
        assert busy.vector_stores.retrieve(crowd).file_counts.in_progress == 3
        wait_until(
            lambda: "cloister_ingest_turns_yielded_total 0.0" not in metrics.get("/metrics").text,
            seconds=10,
            what="a slow file has stood aside",
        )
