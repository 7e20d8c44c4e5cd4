"""Lists that are read page by page: the pages of a list that is read whole, and hardly more read than a page."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.vault import DataKey
from cloister_retriever.files.schemas import FileRecord, FilesQuery
from cloister_retriever.identifiers import FILE_PREFIX, new_placed_id
from cloister_retriever.pages import ListQuery, Order, page_of
from cloister_retriever.storage.folder import FolderObjects
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords
from cloister_retriever.timeline import Timeline
from cloister_retriever.vector_stores.records import Attached
from cloister_retriever.vector_stores.schemas import AttachFile, CreateBatch, CreateStore, FilesInStoreQuery
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored

KEY = DataKey(b"k" * 32, tenant=TENANT)
NOW = time.time_ns()
HOUR = 3600 * 10**9


class Counting(Objects):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.reads = 0

    async def get(self, path: str) -> bytes | None:
        self.reads += 1
        return await super().get(path)


def record_of(place: int, *, has_time: bool = True) -> FileRecord:
    """A file; without a time in its id it is one of the version before."""
    old = "".join([FILE_PREFIX, secrets.choice("0f"), secrets.token_hex(24)[1:]])
    return FileRecord(
        id=new_placed_id(FILE_PREFIX, place) if has_time else old,
        name="a.txt",
        purpose="assistants",
        size=1,
        sha256="",
        created_at=place // 10**9,
        created_ns=place if has_time else None,
    )


async def stored(objects: Objects, files: Sequence[FileRecord]) -> Timeline[FileRecord]:
    records = SealedRecords(objects)
    for file in files:
        await records.put(f"files/{file.id}", file, KEY)

    async def key_of(_: str) -> DataKey:
        return KEY

    return Timeline(objects, records, "files", FILE_PREFIX, RecordKind(FileRecord, key_of, FileRecord.lost))


async def page(timeline: Timeline[FileRecord], query: ListQuery) -> tuple[list[FileRecord], bool]:
    bounds = await timeline.bounds(after=query.after, before=query.before, order=query.order)
    return await bounds.gather(timeline.steps(bounds, query.limit + 1), query.limit)


ages = st.sampled_from([0, 1, 5, 10**9, HOUR // 2, HOUR, 2 * HOUR, 20 * HOUR, 2000 * HOUR])


@given(
    files=st.lists(st.tuples(ages, st.integers(0, 3), st.booleans()), max_size=12),
    order=st.sampled_from(["asc", "desc"]),
    cursors=st.tuples(st.integers(-1, 14), st.integers(-1, 14)),
    limit=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_a_page_is_the_same_as_of_a_list_that_is_read_whole(
    files: list[tuple[int, int, bool]], order: Order, cursors: tuple[int, int], limit: int
) -> None:
    async def run() -> None:
        made = [record_of(NOW - age - more, has_time=has_time) for age, more, has_time in files]
        names = [file.id for file in [*made, record_of(NOW - HOUR)]]  # the last is gone
        after, before = (names[at] if 0 <= at < len(names) else None for at in cursors)
        query = ListQuery(after=after, before=before, order=order, limit=limit)
        expected = page_of(made, id_of=lambda file: file.id, place_of=lambda file: file.place, **query.model_dump())
        assert await page(await stored(Objects(MemoryStore()), made), query) == expected

    asyncio.run(run())


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("apart", [1, HOUR], ids=["at_once", "over_weeks"])
async def test_hardly_more_records_are_read_than_a_page_takes(order: Order, apart: int) -> None:
    objects = Counting()
    files = [record_of(NOW - number * apart) for number in range(300)]
    timeline = await stored(objects, files)
    shown, has_more = await page(timeline, ListQuery(order=order, limit=10, after=files[100].id))
    assert ([one.id for one in shown], has_more) == (
        [one.id for one in (files[101:111] if order == "desc" else files[99:89:-1])],
        True,
    )
    assert objects.reads < 2 * 11


async def test_a_cursor_of_the_version_before_that_is_gone_is_refused_by_name() -> None:
    timeline = await stored(Objects(MemoryStore()), [])
    with pytest.raises(InvalidRequest) as refused:
        await timeline.bounds(after=record_of(NOW, has_time=False).id, order="asc")
    assert refused.value.param == "after"


async def test_a_page_of_one_purpose_is_full_however_rare_it_is() -> None:
    process = MemoryProcess(Stored(), MemoryRoot())
    for _ in range(30):
        await process.upload("a")
    file, *_ = (await process.files.list(TENANT, FilesQuery(order="asc", limit=1)))[0]
    key = await process.file_store.key(TENANT, file.id)
    assert key is not None
    await process.file_store.put(TENANT, file.model_copy(update={"purpose": "batch"}), key)
    found, has_more = await process.files.list(TENANT, FilesQuery(purpose="batch", limit=1))
    assert ([one.id for one in found], has_more) == ([file.id], False)


Ask = Callable[[FilesInStoreQuery], Awaitable[tuple[list[Attached], bool]]]


async def walked(ask: Ask, query: FilesInStoreQuery) -> list[str]:
    """The files of every page."""
    seen: list[str] = []
    has_more = True
    while has_more:
        shown, has_more = await ask(query)
        seen += [one.record.file_id for one in shown]
        query = query.model_copy(update={"after": seen[-1]})
    return seen


async def test_pages_of_a_stores_files_and_of_a_batchs_go_through_all_of_them_once() -> None:
    process = MemoryProcess(Stored(), MemoryRoot())
    files = [(await process.upload(f"{number}")).id for number in range(7)]
    store = (await process.stores.create(TENANT, CreateStore())).id
    key = (await process.stores.get(TENANT, store)).key
    batch, _ = await process.batches.create(TENANT, store, key, CreateBatch(file_ids=files[::-1]))
    gone, other = files[5], files[0]
    await process.attachments.detach(TENANT, store, key, gone)
    await process.attachments.detach(TENANT, store, key, other)
    await process.attachments.attach(TENANT, store, key, AttachFile(file_id=other))

    async def in_store(query: FilesInStoreQuery) -> tuple[list[Attached], bool]:
        return await process.attachments.page(TENANT, store, key, query)

    async def in_batch(query: FilesInStoreQuery) -> tuple[list[Attached], bool]:
        return await process.batches.page(TENANT, key, batch, query)

    once = [one for one in files[:0:-1] if one != gone]
    for ask, expected in ((in_store, [*once, other]), (in_batch, once)):
        for query in (FilesInStoreQuery(order="asc", limit=2), FilesInStoreQuery(limit=2, filter="in_progress")):
            assert await walked(ask, query) == (expected if query.order == "asc" else expected[::-1])
        behind, _ = await ask(FilesInStoreQuery(after=gone, order="asc"))
        assert [one.record.file_id for one in behind][:2] == [files[4], files[3]]
        assert await ask(FilesInStoreQuery(filter="completed")) == ([], False)


@pytest.mark.parametrize("kind", ["folder", "memory"])
async def test_what_lies_between_two_names_comes_in_order(kind: str, tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path) if kind == "folder" else Objects(MemoryStore())
    names = [f"{number:04d}" for number in range(250)]
    for name in sorted(names, key=lambda _: os.urandom(4)):
        await objects.put(f"a/b/{name}", name.encode())
    await objects.put("a/bb/0100", b"")

    async def between(**bounds: str) -> list[tuple[str, int]]:
        return [(one.path, one.size) async for part in objects.between("a/b", **bounds) for one in part]

    assert await between() == [(f"a/b/{name}", 4) for name in names]
    assert await between(after="0009", until="0230") == [(f"a/b/{name}", 4) for name in names[10:230]]
    assert await between(after="0249") == []
    assert [one async for one in objects.between("none")] == []


async def test_a_folder_says_of_what_is_written_anew_that_it_changed(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    seen = set()
    for _ in range(20):
        await objects.put("a/b", b"data")
        seen |= {one.e_tag async for part in objects.between("a") for one in part}
    assert len(seen) == 20
