"""The pipeline and its workers beside callers that change their minds, and after others that died."""

import contextlib
from collections import Counter
from typing import Any

import pytest
from cloister_common.caller import NOBODY
from cloister_common.errors import NotFound
from cloister_common.wire.search import SearchRequest
from cloister_retriever.audience.service import Sight
from cloister_retriever.ingestion import worker
from cloister_retriever.jobs.queue import Claim, Job
from cloister_retriever.vector_stores.admission import admit
from cloister_retriever.vector_stores.schemas import AttachFile, CreateBatch, CreateStore
from cloister_retriever.vector_stores.service import OpenStore

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until

TEXT = "the zebra eats grass"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.ingestion.worker._POLL_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.worker._EARLY_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.worker._FIRST_PAUSE_SECONDS", 0.005)


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def process(stored: Stored) -> MemoryProcess:
    return MemoryProcess(stored, MemoryRoot())


async def queue_is_empty(process: MemoryProcess) -> bool:
    return not await process.objects.list("queue")


async def refused(stored: Stored) -> bool:
    return stored.refusals > 0


async def store_with(process: MemoryProcess, *file_ids: str) -> OpenStore:
    made = await process.stores.create(TENANT, CreateStore(file_ids=list(file_ids)))
    return await process.stores.get(TENANT, made.id)


async def test_a_file_deleted_while_it_is_attached_leaves_no_job_and_no_attachment(process: MemoryProcess) -> None:
    file = await process.upload(TEXT)
    store = await store_with(process)
    entries = [AttachFile(file_id=file.id)]
    files = await process.attachments.known_files(TENANT, entries)
    await process.files.delete(TENANT, file.id, process.stores.detach_file)
    await process.attachments.attach_all(TENANT, store.record.id, store.key, entries, files)
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    assert await process.attachments.list(TENANT, store.record.id, store.key) == []
    assert await process.objects.list("queue") == []


async def test_what_of_a_deletion_takes_too_long_is_left_to_a_worker(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister_retriever.vector_stores.service._CLEAR_SECONDS", 0)
    files = [(await process.upload(TEXT)).id for _ in range(3)]
    store = await store_with(process, *files)
    await process.stores.delete(TENANT, store.record.id)
    with pytest.raises(NotFound):
        await process.stores.get(TENANT, store.record.id)
    left = [listed.path for listed in await process.objects.list("t") if store.record.id in listed.path]
    assert len(left) >= 6, "attachments and uses"
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    assert [listed.path for listed in await process.objects.list("t") if store.record.id in listed.path] == []


async def test_attributes_changed_while_a_file_is_detached_do_not_bring_it_back(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await process.upload(TEXT)
    store = await store_with(process, file.id)
    put = process.store.put_attachment

    async def put_late(*arguments: Any) -> None:
        await process.attachments.detach(TENANT, store.record.id, store.key, file.id)
        await put(*arguments)

    monkeypatch.setattr(process.store, "put_attachment", put_late)
    with pytest.raises(NotFound):
        await process.attachments.set_attributes(TENANT, store.record.id, store.key, file.id, {"a": 1})
    assert await process.attachments.list(TENANT, store.record.id, store.key) == []


async def test_a_worker_that_looks_before_the_attachment_is_there_does_not_forget_the_file(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = MemoryRoot()
    dying, eager, heir = (MemoryProcess(stored, root) for _ in range(3))
    file = await dying.upload(TEXT)
    store = await store_with(dying)
    put, markers = dying.queue.put, 0

    async def put_and_be_seen(*arguments: Any, **options: Any) -> Job:
        nonlocal markers
        markers += 1
        if markers > 1:
            raise Killed
        job = await put(*arguments, **options)
        claim = await eager.queue.claim()
        assert claim is not None
        await eager.workers._do(claim, eager.workers.turns.begin("share"))
        return job

    monkeypatch.setattr(dying.queue, "put", put_and_be_seen)
    monkeypatch.setattr(dying.queue, "put_again", put_and_be_seen)
    with contextlib.suppress(Killed):
        await dying.attachments.attach(TENANT, store.record.id, store.key, AttachFile(file_id=file.id))
    heir.workers.start(heir.supervisor)

    async def is_completed() -> bool:
        attached = await heir.attachments.get(TENANT, store.record.id, store.key, file.id)
        return attached.status == "completed"

    await until(is_completed)
    await heir.supervisor.close()


def claimed(process: MemoryProcess, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The workers find every job as one that was claimed ``number`` times before."""
    claim = process.queue.claim

    async def again(*arguments: Any, **options: Any) -> Claim | None:
        found = await claim(*arguments, **options)
        return None if found is None else found.model_copy(update={"number": number})

    monkeypatch.setattr(process.queue, "claim", again)


async def test_a_large_file_that_is_being_read_does_not_hide_those_that_are_completed(
    process: MemoryProcess, stored: Stored
) -> None:
    file = await process.upload(TEXT)
    store = await store_with(process, file.id)
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    other = await process.upload("zebra")
    await process.attachments.attach(TENANT, store.record.id, store.key, AttachFile(file_id=other.id))
    reading = await process.attachments.get(TENANT, store.record.id, store.key, other.id)
    nearest = next(row for row in stored.rows.values() if row["position"] == 1)
    for number in range(20_000):
        row = {**nearest, "id": f"psg_{number}", "attachment_id": reading.record.id, "file_id": other.id}
        stored.rows[row["id"]] = row
    found = await process.search.search(TENANT, [store.record.id], SearchRequest(query="zebra"))
    assert [one.file_id for one in found] == [file.id] * len(TEXT.split())
    assert found[0].text == "zebra"


async def test_a_file_that_takes_every_worker_down_is_given_up_and_leaves_no_passages(
    process: MemoryProcess, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await process.upload(TEXT)
    store = await store_with(process, file.id)
    attached = await process.attachments.get(TENANT, store.record.id, store.key, file.id)
    row = {"id": "psg_1", "store_id": store.record.id, "attachment_id": attached.record.id, "position": 0}
    stored.rows["psg_1"] = row
    stored.index_is_down = True
    claimed(process, monkeypatch, worker._MOST_CLAIMS + 1)
    process.workers.start(process.supervisor)
    await until(lambda: refused(stored))
    stored.index_is_down = False
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    attached = await process.attachments.get(TENANT, store.record.id, store.key, file.id)
    assert attached.wire()["last_error"]["message"] == "Reading this file failed again and again."
    assert stored.rows == {}


async def test_a_removal_is_never_given_up(
    process: MemoryProcess, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.rows["psg_1"] = {"id": "psg_1", "store_id": "vs_1", "attachment_id": "vsf_1", "position": 0}
    await process.queue.put("purge", TENANT, "vs_1", attachment_id="vsf_1")
    claimed(process, monkeypatch, 100)
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    assert stored.rows == {}


async def test_a_job_that_does_not_open_keeps_no_other_back(process: MemoryProcess) -> None:
    await process.objects.put(f"queue/{0:019d}-tampered", b"not a job")
    job = await process.queue.put("purge", TENANT, "vs_1")
    claim = await process.queue.claim()
    assert claim is not None
    assert claim.job == job


async def test_attaching_many_files_costs_three_small_writes_for_each_and_no_look(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(await process.upload(TEXT)).id for _ in range(50)]
    store = await store_with(process)
    await process.queue.put("purge", TENANT, store.record.id)  # makes the queue's key, once
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        call = getattr(process.objects, name)

        async def counting(*arguments: Any) -> Any:
            calls[name] += 1
            return await call(*arguments)

        monkeypatch.setattr(process.objects, name, counting)

    for name in ("get", "put", "create", "list", "size"):
        counted(name)
    caller = Sight(process.audiences, TENANT, NOBODY)
    request = CreateBatch(files=[AttachFile(file_id=file, attributes={"n": 1}) for file in files])
    await admit(caller, TENANT, process.attachments, request.entries())
    _, attached = await process.batches.create(TENANT, store.record.id, store.key, request)
    assert len(attached) == len(files)
    assert calls["create"] == len(files), "the attachments"
    assert calls["put"] == 2 * len(files) + 1, "the uses, the jobs and the batch"
    assert calls["get"] < len(files) + 10, "the files' records"
    assert calls["list"] + calls["size"] < 5


async def test_without_an_index_the_jobs_of_a_sealed_store_that_is_deleted_end(
    process: MemoryProcess, stored: Stored
) -> None:
    """Where there is no Milvus at all, asking it to remove what it never had would never end."""
    stored.index_is_down = True
    file = await process.upload(TEXT)
    made = await process.stores.create(TENANT, CreateStore(file_ids=[file.id], protection="sealed"))
    await process.stores.delete(TENANT, made.id)
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    assert stored.refusals == 0
