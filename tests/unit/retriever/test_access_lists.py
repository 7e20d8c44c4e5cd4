"""Access lists of files: what a search finds for whom, from when on, at what cost, and after a crash."""

import contextlib
import random
from collections.abc import Collection, Sequence, Set
from typing import Any

import pytest
from cloister_common.caller import NOBODY, Caller
from cloister_common.errors import Forbidden, InvalidRequest, NotFound
from cloister_common.wire.search import FoundPassage, SearchRequest
from cloister_retriever.audience.requests import _sight
from cloister_retriever.audience.schemas import AccessList
from cloister_retriever.audience.service import Sight
from cloister_retriever.files.routes import router as files_routes
from cloister_retriever.files.schemas import FilesQuery
from cloister_retriever.index.protocol import Found
from cloister_retriever.reading.routes import router as reading
from cloister_retriever.search.asking import Asked
from cloister_retriever.search.routes import router as search_routes
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.admission import admit
from cloister_retriever.vector_stores.file_routes import router as files_in_stores
from cloister_retriever.vector_stores.routes import router as vector_stores
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore, FilesInStoreQuery
from cloister_retriever.vector_stores.service import OpenStore
from fastapi.routing import APIRoute

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until
from tests.unit.retriever.test_ingestion import queue_is_empty, short_pauses

__all__ = ["short_pauses"]

ANNA = Caller(user="anna")
BEN = Caller(user="ben")
HR = Caller(groups=("hr",))
OFFICER = Caller(all_files=True)


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def root() -> MemoryRoot:
    return MemoryRoot()


@pytest.fixture
def process(stored: Stored, root: MemoryRoot) -> MemoryProcess:
    return MemoryProcess(stored, root, sealed_passages=1000)


def sight(process: MemoryProcess, caller: Caller) -> Sight:
    return Sight(process.audiences, TENANT, caller)


async def filled(
    process: MemoryProcess, count: int, protection: Protection = "standard"
) -> tuple[OpenStore, list[str]]:
    """A store with so many searchable files, which have a word in common."""
    files = [(await process.upload(f"zebra w{number} x{number} y{number}")).id for number in range(count)]
    made = await process.stores.create(TENANT, CreateStore(file_ids=files, protection=protection))
    store = await process.stores.get(TENANT, made.id)
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))
    await process.supervisor.close()
    return store, files


async def listed(process: MemoryProcess, caller: Caller, file_id: str, wanted: AccessList | None) -> None:
    seen = sight(process, caller)
    await seen.put({file_id: seen.listed(file_id, await seen.see(file_id), wanted)})


async def search(process: MemoryProcess, store: OpenStore, caller: Caller, most: int = 50) -> list[FoundPassage]:
    request = SearchRequest(query="zebra grass", max_num_results=most)
    hidden = await sight(process, caller).hidden()
    return await process.search.search(TENANT, [store.record.id], request, hidden=hidden)


async def found(process: MemoryProcess, store: OpenStore, caller: Caller) -> set[str]:
    return {one.file_id for one in await search(process, store, caller)}


def can_see(lists: dict[str, AccessList], owner: str, caller: Caller, files: Collection[str]) -> set[str]:
    """Said once more, and otherwise: what a caller sees."""
    visible = set()
    for file_id in files:
        access = lists.get(file_id)
        names = [] if access is None else [owner, *access.users]
        groups = [] if access is None else access.groups
        if (
            access is None
            or caller.all_files
            or caller.user in names
            or any(group in groups for group in caller.groups)
        ):
            visible.add(file_id)
    return visible


@pytest.mark.parametrize(
    ("protection", "filters"), [("standard", None), ("sealed", {"type": "ne", "key": "kind", "value": "x"})]
)
async def test_scores_do_not_tell_which_words_a_hidden_file_has(
    protection: Protection, filters: dict[str, str] | None
) -> None:
    request = SearchRequest.model_validate({"query": "zebra w0 w3 x1", "filters": filters})
    scores = []
    for other in (None, "w0 w0 secret", "nothing of it"):
        process = MemoryProcess(Stored(), MemoryRoot())
        # So many that words of files are joined, those of the hidden one among them.
        store, _ = await filled(process, 20, protection)
        if other is not None:
            await hide_in(process, store, other)
            process = MemoryProcess(process.stored, process.root)
        hidden = await sight(process, BEN).hidden()
        results = await process.search.search(TENANT, [store.record.id], request, hidden=hidden)
        scores.append({one.text: one.score for one in results})
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] == pytest.approx(scores[2], abs=1e-6)
    assert len(scores[0]) == 10


async def hide_in(process: MemoryProcess, store: OpenStore, text: str) -> None:
    """Puts a file into a store that only Anna sees."""
    file = await process.upload(text)
    await listed(process, OFFICER, file.id, AccessList(users=["anna"]))
    await process.attachments.attach(TENANT, store.record.id, store.key, AttachFile(file_id=file.id))
    heir = MemoryProcess(process.stored, process.root)
    heir.workers.start(heir.supervisor)
    await until(lambda: queue_is_empty(heir))
    await heir.supervisor.close()


@pytest.mark.parametrize("ids_a_filter", [1, 3, 1000])
@pytest.mark.parametrize(("seed", "protection"), [(0, "standard"), (1, "sealed")])
async def test_a_search_finds_exactly_what_its_caller_may_see(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch, seed: int, protection: Protection, ids_a_filter: int
) -> None:
    monkeypatch.setattr("cloister_retriever.search.scope._FEW_HIDDEN", 2)
    monkeypatch.setattr("cloister_retriever.search.scope._MOST_LEFT_OUT", ids_a_filter)
    chance = random.Random(seed)
    store, files = await filled(process, 10, protection)
    users, groups = ["anna", "ben", "cleo"], ["hr", "board"]
    lists: dict[str, AccessList] = {}
    for _ in range(3):
        for file_id in chance.sample(files, 4):
            wanted = AccessList(
                users=chance.sample(users, chance.randrange(3)), groups=chance.sample(groups, chance.randrange(2))
            )
            lists[file_id] = wanted
            await listed(process, Caller(user="owner", all_files=True), file_id, wanted)
        for caller in (
            NOBODY,
            OFFICER,
            Caller(user="owner"),
            *(Caller(user=user) for user in users),
            *(Caller(groups=(group,)) for group in groups),
            Caller(user="cleo", groups=("hr", "else")),
        ):
            visible = can_see(lists, "owner", caller, files)
            assert await found(process, store, caller) == visible
            hidden = await sight(process, caller).hidden()
            page, _ = await process.attachments.page(
                TENANT, store.record.id, store.key, FilesInStoreQuery(), hidden=hidden
            )
            assert {file.record.file_id for file in page} == visible
            every, _ = await process.files.list(TENANT, FilesQuery(), hidden=hidden)
            assert {file.id for file in every} == visible
            for file_id in set(files) - visible:
                with pytest.raises(NotFound):
                    await sight(process, caller).see(file_id)


@pytest.mark.parametrize("protection", ["standard", "sealed"])
async def test_hidden_passages_take_no_place_among_those_that_are_ranked(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch, protection: Protection
) -> None:
    store, files = await filled(process, 60, protection)
    for file_id in files[:55]:
        await listed(process, ANNA, file_id, AccessList())
    proposed: list[str] = []
    open_hits = process.search._open

    async def noting(tenant: str, store: OpenStore, asked: Asked, parts: Sequence[Found], hidden: Set[str]) -> Any:
        proposed.extend(hit.passage.file_id for found in parts for hit in found.hits)
        return await open_hits(tenant, store, asked, parts, hidden)

    monkeypatch.setattr(process.search, "_open", noting)
    results = await search(process, store, BEN, most=15)
    assert len(results) == 15
    assert {one.file_id for one in results} <= set(proposed) == set(files[55:])


async def test_a_list_holds_from_the_next_search_on_in_every_process(
    stored: Stored, root: MemoryRoot, process: MemoryProcess
) -> None:
    store, files = await filled(process, 2)
    other = MemoryProcess(stored, root)
    for _ in range(3):
        await listed(process, ANNA, files[0], AccessList(users=["ben"]))
        assert await found(other, store, BEN) == await found(process, store, BEN) == set(files)
        await listed(other, ANNA, files[0], AccessList())
        assert await found(process, store, BEN) == await found(other, store, BEN) == {files[1]}
        await listed(process, ANNA, files[0], None)
        assert await found(other, store, NOBODY) == set(files)


async def test_a_process_that_dies_while_it_writes_a_list_leaves_none_that_is_not_heeded(
    stored: Stored, root: MemoryRoot, process: MemoryProcess
) -> None:
    store, files = await filled(process, 2)
    await listed(process, ANNA, files[0], AccessList(users=["ben"]))
    for writes in range(4):
        assert await found(process, store, BEN) == set(files)  # it is remembered now
        dying = MemoryProcess(stored, root)
        dying.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await listed(dying, ANNA, files[0], AccessList())
        [access] = await process.audiences.get_all(TENANT, files[:1])
        assert access is not None
        assert (files[0] in await found(process, store, BEN)) == access.shows(BEN)
        await listed(process, ANNA, files[0], AccessList(users=["ben"]))
    assert dying.fuse.writes_left == 0, "the last time it lived to the end"


async def test_a_search_reads_one_object_more_where_no_list_was_changed_since(
    process: MemoryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister_retriever.search.scope._FEW_HIDDEN", 3)
    store, files = await filled(process, 9)
    for file_id in files[:6]:
        await listed(process, ANNA, file_id, AccessList())
    reads: list[str] = []

    def noting(name: str, method: Any) -> Any:
        def call(at: str, **options: Any) -> Any:
            reads.append(f"{name} {at}")
            return method(at, **options)

        return call

    for name in ("get", "between", "list"):
        monkeypatch.setattr(process.objects, name, noting(name, getattr(process.objects, name)))
    assert await found(process, store, BEN) == set(files[6:])
    assert [read for read in reads if not read.startswith("get")], "at first everything is listed"
    reads.clear()
    assert await found(process, store, BEN) == set(files[6:])
    assert [read.rsplit("/", 1)[1] for read in reads if "access" in read] == ["access-change"]
    assert not [read for read in reads if not read.startswith("get")]


async def test_whoever_puts_a_list_on_a_file_owns_it_and_readers_change_nothing(process: MemoryProcess) -> None:
    store, files = await filled(process, 1)
    await listed(process, ANNA, files[0], AccessList(users=["ben"], groups=["hr"]))
    for reader in (BEN, HR):
        assert await found(process, store, reader) == set(files)
        with pytest.raises(Forbidden):
            await sight(process, reader).change(files[0])
        with pytest.raises(Forbidden):
            await listed(process, reader, files[0], AccessList(users=["ben"]))
        entry = AttachFile(file_id=files[0], attributes={"a": 1})
        with pytest.raises(Forbidden):
            await admit(sight(process, reader), TENANT, process.attachments, [entry])
    await listed(process, OFFICER, files[0], AccessList(groups=["board"]))
    assert await found(process, store, BEN) == set()
    await sight(process, ANNA).change(files[0])  # she owns it still


async def test_nobody_in_particular_can_own_a_list(process: MemoryProcess) -> None:
    _, files = await filled(process, 1)
    for caller in (NOBODY, HR):
        with pytest.raises(Forbidden, match="names no user"):
            await listed(process, caller, files[0], AccessList(groups=["hr"]))


async def test_a_request_that_is_refused_for_one_file_puts_no_list_on_another(process: MemoryProcess) -> None:
    store, files = await filled(process, 2)
    await listed(process, ANNA, files[0], AccessList())
    entries = [AttachFile(file_id=file_id, access=AccessList(users=["cleo"])) for file_id in (files[1], files[0])]
    with pytest.raises(NotFound):
        await admit(sight(process, BEN), TENANT, process.attachments, entries)
    unknown = AttachFile(file_id="file-" + "0" * 48, access=AccessList())
    with pytest.raises(NotFound):
        await admit(sight(process, BEN), TENANT, process.attachments, [entries[0], unknown])
    assert await found(process, store, NOBODY) == {files[1]}
    assert await process.audiences.get_all(TENANT, [unknown.file_id]) == [None]


async def test_a_list_that_does_not_open_shows_the_file_to_nobody(process: MemoryProcess) -> None:
    store, files = await filled(process, 2)
    await listed(process, ANNA, files[0], AccessList(users=["ben"]))
    await listed(process, ANNA, files[1], AccessList(users=["ben"]))
    first, second = sorted(
        [one.path for one in await process.objects.list("t") if "/access/" in one.path],
        key=lambda path: not path.endswith(files[0]),
    )
    sealed = await process.objects.get(second)
    assert sealed is not None
    await process.objects.put(first, sealed)  # another file's list
    for caller in (ANNA, BEN, NOBODY):
        assert files[0] not in await found(process, store, caller)
        with pytest.raises(NotFound):
            await sight(process, caller).see(files[0])
    assert await found(process, store, OFFICER) == set(files)


async def test_a_file_that_is_uploaded_with_a_list_is_never_seen_without_it(process: MemoryProcess) -> None:
    file = await process.upload("the salary is 4711", ANNA, access='{"groups": ["hr"]}')
    assert (await process.files.list(TENANT, FilesQuery(), hidden=await sight(process, NOBODY).hidden()))[0] == []
    for caller, sees in ((ANNA, True), (HR, True), (OFFICER, True), (BEN, False), (NOBODY, False)):
        assert (file.id in await sight(process, caller).hidden()) is not sees
    with pytest.raises(Forbidden):
        await process.upload("the salary is 4711", NOBODY, access="{}")
    for wrong in ("hr", "[]", '{"users": "anna"}', '{"people": []}'):
        with pytest.raises(InvalidRequest) as refused:
            await process.upload("the salary is 4711", ANNA, access=wrong)
        assert (refused.value.param or "").startswith("access")
    assert len([one for one in await process.objects.list("t") if "/access/" in one.path]) == 1
    assert [one.id for one in (await process.files.list(TENANT, FilesQuery()))[0]] == [file.id]


async def test_an_upload_that_dies_is_no_file_whatever_its_list(
    stored: Stored, root: MemoryRoot, process: MemoryProcess
) -> None:
    for writes in range(20):
        dying = MemoryProcess(stored, root)
        dying.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await dying.upload("the salary is 4711", ANNA, access="{}")
        files = {one.id for one in (await process.files.list(TENANT, FilesQuery()))[0]}
        assert files == await sight(process, BEN).hidden() & files
        if not dying.fuse.blown:
            return
    pytest.fail("it never came to the end")


async def test_a_deleted_file_leaves_no_list(process: MemoryProcess) -> None:
    store, files = await filled(process, 2)
    await listed(process, ANNA, files[0], AccessList(users=["ben"]))
    await process.files.delete(TENANT, files[0], process.stores.detach_file)
    assert not [one for one in await process.objects.list("t") if "/access/" in one.path]
    assert await found(process, store, BEN) == {files[1]}


WITHOUT_FILES = {
    ("GET", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores/{store_id}"),
    ("POST", "/v1/vector_stores/{store_id}"),
    ("DELETE", "/v1/vector_stores/{store_id}"),
    ("GET", "/v1/vector_stores/{store_id}/file_batches/{batch_id}"),
}
"""Routes that show no file that there was, and change none."""


def test_every_route_with_files_looks_at_who_asks() -> None:
    found = set()
    for router in (files_routes, search_routes, files_in_stores, vector_stores, reading):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            asked = [dependency.call for dependency in route.dependant.dependencies]
            if _sight not in asked:
                found |= {(method, route.path) for method in route.methods or ()}
    assert found == WITHOUT_FILES
