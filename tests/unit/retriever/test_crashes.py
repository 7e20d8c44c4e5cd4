"""A process killed between any two of its writes: what is stored is whole again when another has done its work."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from cloister_common.errors import NotFound
from cloister_retriever.files.schemas import FilesQuery
from cloister_retriever.pages import ListQuery
from cloister_retriever.vector_stores.schemas import (
    AttachFile,
    CreateBatch,
    CreateStore,
    StaticChunking,
    StaticChunkingSizes,
)

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored

TEXT = "the zebra eats grass every morning"
OTHER_CHUNKS = StaticChunking(
    type="static", static=StaticChunkingSizes(max_chunk_size_tokens=100, chunk_overlap_tokens=0)
)

Act = Callable[[MemoryProcess, str, str], Awaitable[object]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.ingestion.worker._POLL_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.ingestion.worker._EARLY_SECONDS", 0.005)
    monkeypatch.setattr("cloister_retriever.vector_stores.attaching._FEW", 1)
    monkeypatch.setattr("cloister_common.supervisor._FIRST_PAUSE_SECONDS", 0.005)


async def settled(process: MemoryProcess) -> None:
    """Lets the workers of ``process`` empty the queue."""
    process.workers.start(process.supervisor)
    async with asyncio.timeout(20):
        while await process.objects.list("queue") or await process.objects.list("leases"):
            if process.fuse.blown:
                raise Killed
            await asyncio.sleep(0.005)
    await process.supervisor.close()


async def prepared(stored: Stored, root: MemoryRoot) -> tuple[str, str]:
    """A store with one completed file: (store, file)."""
    process = MemoryProcess(stored, root)
    file = await process.upload(TEXT)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file.id]))
    await settled(process)
    return store.id, file.id


async def check_whole(stored: Stored, process: MemoryProcess) -> None:
    """No file is stuck, those that are completed have all of their passages, and the index holds nothing else."""
    wanted = 0
    for record in (await process.stores.list(TENANT, ListQuery()))[0]:
        opened = await process.stores.get(TENANT, record.id)
        for attached in await process.attachments.list(TENANT, record.id, opened.key):
            assert attached.status in {"completed", "cancelled"}
            if attached.status == "completed":
                rows = [row for row in stored.rows.values() if row["attachment_id"] == attached.record.id]
                assert len(rows) == len(TEXT.split())
                wanted += len(rows)
    assert len(stored.rows) == wanted


async def check_deletable(stored: Stored, process: MemoryProcess, *, unused_keys: int) -> None:
    """What can be seen can be deleted, and then nothing is left of it."""
    for file in (await process.files.list(TENANT, FilesQuery()))[0]:
        await process.files.delete(TENANT, file.id, process.stores.detach_file)
    for record in (await process.stores.list(TENANT, ListQuery()))[0]:
        await process.stores.delete(TENANT, record.id)
    assert stored.rows == {}
    assert [listed.path for listed in await process.objects.list("t")] == []
    lasting = 3  # the tenant's, and the two of the records that have no tenant
    assert lasting <= len(await process.objects.list("keys")) <= lasting + unused_keys


async def attach_elsewhere(process: MemoryProcess, _: str, file: str) -> None:
    await process.stores.create(TENANT, CreateStore(file_ids=[file]))
    await settled(process)


async def attach_and_cancel(process: MemoryProcess, _: str, file: str) -> None:
    other = await MemoryProcess(process.stored, process.root).upload(TEXT)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file, other.id]))
    opened = await process.stores.get(TENANT, store.id)
    attached = await process.attachments.list(TENANT, store.id, opened.key)
    await process.attachments.cancel(TENANT, opened.key, [one.record for one in attached])


async def attach_many(process: MemoryProcess, store: str, file: str) -> None:
    """A batch of so many files that they are looked up together, one of which is in the store already."""
    before = MemoryProcess(process.stored, process.root)
    files = [file, *[(await before.upload(TEXT)).id for _ in range(3)]]
    opened = await process.stores.get(TENANT, store)
    _, attached = await process.batches.create(TENANT, store, opened.key, CreateBatch(file_ids=files))
    assert [one.record.file_id for one in attached] == files
    assert [one.status for one in attached] == ["completed", *["in_progress"] * 3]


async def cut_anew(process: MemoryProcess, store: str, file: str) -> None:
    opened = await process.stores.get(TENANT, store)
    entry = AttachFile(file_id=file, chunking_strategy=OTHER_CHUNKS)
    await process.attachments.attach(TENANT, store, opened.key, entry)
    await settled(process)


async def detach(process: MemoryProcess, store: str, file: str) -> None:
    opened = await process.stores.get(TENANT, store)
    await process.attachments.detach(TENANT, store, opened.key, file)


async def delete_file(process: MemoryProcess, _: str, file: str) -> None:
    await process.files.delete(TENANT, file, process.stores.detach_file)


async def delete_store(process: MemoryProcess, store: str, _: str) -> None:
    await process.stores.delete(TENANT, store)


@pytest.mark.parametrize("index_is_down", [False, True], ids=["", "index_down"])
@pytest.mark.parametrize("act", [detach, delete_file, delete_store])
async def test_a_deletion_killed_at_any_write_ends_whole(act: Act, index_is_down: bool) -> None:
    assert await _kill_at_every_write(act, index_is_down=index_is_down) > 4


@pytest.mark.parametrize("act", [attach_elsewhere, attach_and_cancel, attach_many, cut_anew])
async def test_an_ingestion_killed_at_any_write_ends_whole(act: Act) -> None:
    assert await _kill_at_every_write(act, unused_keys=1) > 8


async def _kill_at_every_write(act: Act, *, index_is_down: bool = False, unused_keys: int = 0) -> int:
    """Does ``act`` in a process that is killed at its first write, its second, …; how many writes it has.

    Args:
        act: What is done.
        index_is_down: Until another process takes over.
        unused_keys: How many keys may be left that never sealed anything: of a store that was never acknowledged.
    """
    writes = 0
    while True:
        stored, root = Stored(), MemoryRoot()
        store, file = await prepared(stored, root)
        dying, heir = MemoryProcess(stored, root), MemoryProcess(stored, root)
        dying.fuse.writes_left = writes
        stored.index_is_down = index_is_down
        with contextlib.suppress(Killed):
            await act(dying, store, file)
        await dying.supervisor.close()
        stored.index_is_down = False
        await settled(heir)
        await check_whole(stored, heir)
        if act is delete_file:
            with contextlib.suppress(NotFound):
                await act(heir, store, file)  # what its caller does, who got no answer
        await check_deletable(stored, heir, unused_keys=unused_keys)
        if not dying.fuse.blown:
            return writes
        writes += 1
