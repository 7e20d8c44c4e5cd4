"""One tenant's files do not hold up another's: neither many small ones, nor slow ones on every worker."""

from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker
from tests.support.waiting import wait_until

OTHER = "proj_quiet"
SLOW = b"words of a long file " * 200_000
"""4 MB: half a minute of a processor for each."""

LARGE = b"\n\n".join(b"line %d" % number for number in range(30_000))
"""More than a small file's turn takes."""


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

    def place() -> int:
        """Which one it was of all that were read; 0 is none yet. (Who asked how many are left might ask late.)"""
        done = [line for line in retriever.log.read_text().splitlines() if '"file_ingested"' in line]
        return next((at for at, line in enumerate(done, 1) if file in line), 0)

    assert wait_until(place, what="the log tells of it") < 10
    busy.vector_stores.delete(crowd)


def test_slow_files_on_every_worker_keep_no_small_one_waiting_and_stand_aside_for_a_large_one(
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
        file = upload(quiet, "q.txt", b"one line")
        quiet.vector_stores.files.create(file_id=file, vector_store_id=store)
        assert ingested(quiet, store, seconds=30).file_counts.completed == 1
        assert busy.vector_stores.retrieve(crowd).file_counts.in_progress == 3
        large = upload(quiet, "large.txt", LARGE)
        quiet.vector_stores.files.create(file_id=large, vector_store_id=store)
        wait_until(
            lambda: "cloister_ingest_turns_yielded_total 0.0" not in metrics.get("/metrics").text,
            seconds=30,
            what="a slow file has stood aside",
        )
