"""Lists: the order of creation, finer than a second, and cursors whose item is gone."""

import time

import pytest
from cloister_common.errors import InvalidRequest
from cloister_retriever.files.schemas import FileRecord, FilesQuery
from cloister_retriever.identifiers import FILE_PREFIX, check_id, new_placed_id, place_in
from cloister_retriever.pages import Order, Placed, page_of
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore
from hypothesis import given
from hypothesis import strategies as st

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored

NOW = time.time_ns()


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


def listed(ids: list[str], order: Order, **cursors: str) -> list[str]:
    items = [(one, place_in(one) or 0) for one in ids]
    after, before = cursors.get("after"), cursors.get("before")
    page, _ = page_of(
        items, id_of=lambda i: i[0], place_of=lambda i: i[1], after=after, before=before, limit=2, order=order
    )
    return [one for one, _ in page]


def test_an_id_has_its_shape_and_says_when_it_was_made() -> None:
    made = new_placed_id(FILE_PREFIX, NOW)
    assert check_id(FILE_PREFIX, made) == made
    assert place_in(made) == NOW
    assert new_placed_id(FILE_PREFIX, NOW) != made


@pytest.mark.parametrize("value", ["file-" + "f" * 48, "file-" + "0" * 48, "file-", "x", "file-" + "g" * 48])
def test_an_id_that_holds_no_time_has_no_place(value: str) -> None:
    assert place_in(value) is None


@given(gone=st.sets(st.integers(0, 6)), at=st.integers(0, 6), order=st.sampled_from(["asc", "desc"]))
def test_a_list_goes_on_behind_an_item_that_is_gone(gone: set[int], at: int, order: Order) -> None:
    ids = [new_placed_id(FILE_PREFIX, NOW - 7 + number) for number in range(7)]
    left = [one for number, one in enumerate(ids) if number not in gone]
    behind = [one for one in ids[at + 1 :] if one in left]
    ahead = [one for one in ids[:at] if one in left]
    if order == "asc":
        assert listed(left, "asc", after=ids[at]) == behind[:2]
        assert listed(left, "asc", before=ids[at]) == ahead[-2:]
    else:
        assert listed(left, "desc", after=ids[at]) == ahead[::-1][:2]
        assert listed(left, "desc", before=ids[at]) == behind[::-1][-2:]


def test_a_cursor_that_is_no_place_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        listed([], "asc", after="file-" + "f" * 48)
    assert refused.value.param == "after"


def test_records_of_the_version_before_come_first_in_their_second() -> None:
    old = Placed.model_validate_json('{"created_at": 1790000000}')
    new = Placed(created_at=1790000000, created_ns=1790000000 * 10**9 + 5)
    assert old.place < new.place < Placed(created_at=1790000001).place


async def test_the_newest_file_is_the_first_also_within_a_second(process: MemoryProcess) -> None:
    made = [(await process.upload(f"{number}")).id for number in range(8)]
    newest, has_more = await process.files.list(TENANT, FilesQuery(limit=5))
    assert [record.id for record in newest] == made[:2:-1]
    assert has_more


async def test_every_file_is_deleted_by_who_deletes_while_listing(process: MemoryProcess) -> None:
    for number in range(5):
        await process.upload(f"{number}")
    deleted: list[FileRecord] = []
    after = None
    while True:
        page, has_more = await process.files.list(TENANT, FilesQuery(limit=2, after=after))
        for record in page:
            await process.files.delete(TENANT, record.id, process.stores.detach_file)
        deleted += page
        if not has_more:
            break
        after = page[-1].id
    assert len(deleted) == 5
    assert await process.files.list(TENANT, FilesQuery()) == ([], False)


async def test_files_of_one_request_are_listed_in_its_order(process: MemoryProcess) -> None:
    files = [(await process.upload(f"{number}")).id for number in range(20)]
    store = await process.stores.create(TENANT, CreateStore(file_ids=files[::-1]))
    opened = await process.stores.get(TENANT, store.id)
    attached = await process.attachments.list(TENANT, store.id, opened.key)
    assert [one.record.file_id for one in sorted(attached, key=lambda one: one.record.place)] == files[::-1]


async def test_the_place_of_a_detached_file_is_kept_for_an_hour_and_goes_with_its_store(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [(await process.upload(f"{number}")).id for number in range(2)]
    store = await process.stores.create(TENANT, CreateStore(file_ids=files))
    key = (await process.stores.get(TENANT, store.id)).key
    [first, second] = await process.attachments.list(TENANT, store.id, key)
    await process.attachments.detach(TENANT, store.id, key, first.record.file_id)
    asked = [first.record.file_id, second.record.file_id, "no id"]
    gone = await process.attachments.places_of_gone(TENANT, store.id, key, asked)
    assert gone == {first.record.file_id: first.record.place}

    later = time.time() + 7200
    monkeypatch.setattr("cloister_retriever.vector_stores.store.time.time", lambda: later)
    assert await process.attachments.places_of_gone(TENANT, store.id, key, asked) == {}
    await process.attachments.attach(TENANT, store.id, key, AttachFile(file_id=first.record.file_id))
    await process.attachments.detach(TENANT, store.id, key, second.record.file_id)
    kept = [listed.path for listed in await process.objects.list("t") if "/detached/" in listed.path]
    assert [path.rsplit("/", 1)[-1] for path in kept] == [second.record.file_id]
    await process.stores.delete(TENANT, store.id)
    assert [listed.path for listed in await process.objects.list("t") if store.id in listed.path] == []
