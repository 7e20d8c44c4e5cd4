"""What is damaged is named, can be deleted, and takes nothing else with it."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
from cloister_common.vault import seal
from cloister_common.wire.search import SearchRequest
from cloister_retriever.damage import Damaged
from cloister_retriever.files.schemas import FilesQuery
from cloister_retriever.index.protocol import Entry
from cloister_retriever.index.rows import row_of
from cloister_retriever.pages import ListQuery
from cloister_retriever.vector_stores.schemas import AttachFile, CreateBatch, CreateStore
from openai.types import FileObject
from openai.types.vector_stores import VectorStoreFile

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until
from tests.unit.retriever.test_ingestion import queue_is_empty, short_pauses

__all__ = ["short_pauses"]

TEXT = "the zebra eats grass"


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def process(stored: Stored) -> MemoryProcess:
    return MemoryProcess(stored, MemoryRoot())


async def filled(process: MemoryProcess) -> tuple[str, list[str]]:
    """A store with two completed files."""
    files = [(await process.upload(TEXT)).id for _ in range(2)]
    store = await process.stores.create(TENANT, CreateStore(file_ids=files))
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    return store.id, files


async def damage(process: MemoryProcess, *parts: str, data: bytes = b"damaged") -> None:
    """Puts something else in the place of the one object whose path has all of ``parts``."""
    [path] = [one.path for one in await process.objects.list("t") if all(part in one.path for part in parts)]
    await process.objects.put(path, data)


async def test_a_file_whose_record_is_damaged_is_in_the_list_with_an_error(process: MemoryProcess) -> None:
    good, bad = [(await process.upload(TEXT)).id for _ in range(2)]
    await damage(process, "/files/", bad)
    for query in (FilesQuery(), FilesQuery(purpose="batch")):
        listed, _ = await process.files.list(TENANT, query)
        wire = FileObject.model_validate(listed[0].wire().model_dump(mode="json"))
        assert (wire.id, wire.status) == (bad, "error")
        assert bad in (wire.status_details or "")
    assert [(one.id, one.wire().status) for one in (await process.files.list(TENANT, FilesQuery()))[0][1:]] == [
        (good, "processed")
    ]
    assert (await process.files.describe(TENANT, bad)).wire() == wire
    with pytest.raises(Damaged, match=bad):
        await process.attachments.known_files(TENANT, [AttachFile(file_id=bad)])
    await process.files.delete(TENANT, bad, process.stores.detach_file)
    assert [one.id for one in (await process.files.list(TENANT, FilesQuery()))[0]] == [good]


async def test_a_record_that_opens_but_lacks_a_field_is_damaged_too(process: MemoryProcess) -> None:
    bad = (await process.upload(TEXT)).id
    [path] = [one.path for one in await process.objects.list("t") if "/files/" in one.path]
    key = await process.file_store.key(TENANT, bad)
    assert key is not None
    context = process.records._context(path, type(await process.files.get(TENANT, bad)), key)
    await process.objects.put(path, seal(key.subkey("metadata"), b'{"id": "x"}', context))
    assert [one.wire().status for one in (await process.files.list(TENANT, FilesQuery()))[0]] == ["error"]


@pytest.mark.parametrize("cut", [b"", b"short"])
async def test_a_file_whose_content_was_cut_or_is_gone_is_an_error(process: MemoryProcess, cut: bytes) -> None:
    file = await process.upload(TEXT)
    await damage(process, "/contents/", file.id, data=cut)
    [listed] = (await process.files.list(TENANT, FilesQuery()))[0]
    assert (listed.wire().status, listed.wire().filename) == ("error", "a.txt")
    assert (await process.files.describe(TENANT, file.id)).wire() == listed.wire()
    with pytest.raises(Damaged, match=file.id):
        await anext(process.files.content(TENANT, file))
    for path in [one.path for one in await process.objects.list("t") if "/contents/" in one.path]:
        await process.objects.delete(path)
    assert (await process.files.describe(TENANT, file.id)).wire().status == "error"


async def test_a_damaged_content_fails_the_file_with_the_reason(process: MemoryProcess) -> None:
    file = await process.upload(TEXT)
    await damage(process, "/contents/", file.id)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file.id]))
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    opened = await process.stores.get(TENANT, store.id)
    [attached] = await process.attachments.list(TENANT, store.id, opened.key)
    assert attached.status == "failed"
    assert "damaged" in attached.wire()["last_error"]["message"]


@pytest.mark.parametrize("kind", ["/attachments/", "/outcomes/"])
async def test_a_damaged_file_of_a_store_is_failed_and_the_others_are_found(process: MemoryProcess, kind: str) -> None:
    store, (bad, good) = await filled(process)
    key = (await process.stores.get(TENANT, store)).key
    batch, _ = await process.batches.create(TENANT, store, key, CreateBatch(file_ids=[bad, good]))
    attached = {one.record.file_id: one.record.id for one in await process.attachments.list(TENANT, store, key)}
    await damage(process, kind, bad if kind == "/attachments/" else attached[bad])
    listed = {one.record.file_id: one for one in await process.attachments.list(TENANT, store, key)}
    wire = VectorStoreFile.model_validate(listed[bad].wire())
    assert (wire.status, listed[good].status) == ("failed", "completed")
    assert wire.last_error is not None
    assert "damaged" in wire.last_error.message
    assert (await process.attachments.get(TENANT, store, key, bad)).wire() == listed[bad].wire()
    assert (await process.stores.describe(TENANT, await process.stores.get(TENANT, store))).wire()["file_counts"][
        "failed"
    ] == 1
    assert {one.record.file_id for one in await process.batches.files(TENANT, key, batch)} == {bad, good}
    found = await process.search.search(TENANT, [store], SearchRequest(query="zebra"))
    assert {one.file_id for one in found} == {good}
    if kind == "/attachments/":
        with pytest.raises(Damaged, match=bad):
            await process.attachments.set_attributes(TENANT, store, key, bad, {"a": 1})

    await process.attachments.detach(TENANT, store, key, bad)
    await process.attachments.attach(TENANT, store, key, AttachFile(file_id=bad))
    restarted = MemoryProcess(process.stored, process.root)
    restarted.workers.start(restarted.supervisor)
    await until(lambda: queue_is_empty(restarted))
    await restarted.supervisor.close()
    assert {one.status for one in await process.attachments.list(TENANT, store, key)} == {"completed"}


async def test_a_damaged_store_is_in_the_list_and_can_be_deleted(process: MemoryProcess) -> None:
    bad, files = await filled(process)
    good = (await process.stores.create(TENANT, CreateStore(name="good"))).id
    await damage(process, "/stores/", bad)
    page, _ = await process.stores.list(TENANT, ListQuery())
    listed = [store.wire() for store in page]
    assert [(one["id"], one["status"]) for one in listed] == [(good, "completed"), (bad, "error")]
    assert bad in listed[1]["status_details"]
    refusals: list[Callable[[], Awaitable[object]]] = [
        lambda: process.stores.get(TENANT, bad),
        lambda: process.search.search(TENANT, [bad], SearchRequest(query="zebra")),
    ]
    for refused in refusals:
        with pytest.raises(Damaged, match=bad):
            await refused()
    await process.stores.delete(TENANT, bad)
    assert [one.id for one in (await process.stores.list(TENANT, ListQuery()))[0]] == [good]
    assert process.stored.rows == {}
    for file in files:
        assert await process.uses.stores(TENANT, file) == []


@pytest.mark.parametrize("kind", ["/activity/", "/changes/"])
async def test_a_damaged_time_takes_no_search_away(process: MemoryProcess, kind: str) -> None:
    store, _ = await filled(process)
    await damage(process, kind, store)
    fresh = MemoryProcess(process.stored, process.root)
    assert await fresh.search.search(TENANT, [store], SearchRequest(query="zebra"))


async def test_a_damaged_batch_is_named(process: MemoryProcess) -> None:
    store, files = await filled(process)
    key = (await process.stores.get(TENANT, store)).key
    batch, _ = await process.batches.create(TENANT, store, key, CreateBatch(file_ids=files))
    await damage(process, "/batches/", batch.id)
    with pytest.raises(Damaged, match=batch.id):
        await process.batches.get(TENANT, store, key, batch.id)


async def test_a_copied_row_is_left_out_and_so_is_one_that_lacks_a_field(process: MemoryProcess) -> None:
    store, _ = await filled(process)
    request = SearchRequest(query="zebra", max_num_results=50)
    before = await process.search.search(TENANT, [store], request)
    [row, other, *_] = list(process.stored.rows.values())
    for number in range(5):
        process.stored.rows[f"psg_{number}"] = {**row, "id": f"psg_{number}"}
    for field in ("sealed_vector", "sealed_passage", "file_id", "attachment_id", "position"):
        process.stored.rows[f"{field}-none"] = {**other, "id": f"{field}-none", field: None}
    after = await process.search.search(TENANT, [store], request)
    assert [one.passage.id for one in after] == [one.passage.id for one in before]
    assert len({one.passage.id for one in after}) == len(after) == len(TEXT.split())  # of the two files' same texts one


async def test_rows_copied_while_a_file_is_read_are_not_served_and_do_not_keep_it_from_being_completed(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert, copied = process.index.upsert, False

    async def upsert_and_copy(entries: Sequence[Entry]) -> None:
        nonlocal copied
        await upsert(entries)
        if not copied:
            copied = True
            process.stored.rows["psg_copy"] = {**row_of(entries[0]), "id": "psg_copy"}

    monkeypatch.setattr(process.index, "upsert", upsert_and_copy)
    store, files = await filled(process)
    opened = await process.stores.get(TENANT, store)
    assert (await process.stores.describe(TENANT, opened)).wire()["file_counts"]["completed"] == 2
    found = await process.search.search(TENANT, [store], SearchRequest(query="zebra", max_num_results=50))
    assert "psg_copy" not in {one.passage.id for one in found}
    assert len(found) == len(TEXT.split())
    for file_id in files:
        await process.attachments.detach(TENANT, store, opened.key, file_id)
    assert process.stored.rows == {}
