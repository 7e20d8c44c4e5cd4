"""The durable queue: one owner a job, takeover by silence, nothing forgotten."""

import asyncio

import pytest
from cloister_common.vault import Keyring
from cloister_retriever.jobs.queue import Claim, JobQueue
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords
from obstore.store import MemoryStore

from tests.support.retriever_memory import MemoryRoot

LEASE_SECONDS = 0.3


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


@pytest.fixture
def root() -> MemoryRoot:
    return MemoryRoot()


def queue_of(objects: Objects, root: MemoryRoot) -> JobQueue:
    """The queue as one process sees it."""
    keyring = Keyring("retriever", root, ObjectKeyStore(objects))
    return JobQueue(objects, keyring, SealedRecords(objects), lease_seconds=LEASE_SECONDS)


async def claimed_within(queue: JobQueue, seconds: float) -> Claim:
    async with asyncio.timeout(seconds):
        while (claim := await queue.claim()) is None:
            await asyncio.sleep(0.02)
        return claim


async def test_jobs_come_in_order_and_once(objects: Objects, root: MemoryRoot) -> None:
    queue = queue_of(objects, root)
    first = await queue.put("ingest", "proj_a", "vs_1", file_id="file-1", attachment_id="vsf_1")
    second = await queue.put("purge", "proj_a", "vs_1")
    claims = [await queue.claim(), await queue.claim()]
    assert [claim.job for claim in claims if claim] == [first, second]
    assert await queue.claim() is None


async def test_of_many_processes_one_gets_the_job(objects: Objects, root: MemoryRoot) -> None:
    await queue_of(objects, root).put("purge", "proj_a", "vs_1")
    claims = await asyncio.gather(*(queue_of(objects, root).claim() for _ in range(10)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_job_whose_owner_fell_silent_is_taken_over(objects: Objects, root: MemoryRoot) -> None:
    dead, heir = queue_of(objects, root), queue_of(objects, root)
    await dead.put("purge", "proj_a", "vs_1")
    lost = await dead.claim()
    assert lost is not None
    assert await heir.claim() is None
    taken = await claimed_within(heir, 60)
    assert taken.job == lost.job
    assert taken.number == 2
    assert not await dead.keep(lost)


async def test_an_owner_that_gives_signs_of_life_keeps_its_job(objects: Objects, root: MemoryRoot) -> None:
    owner, other = queue_of(objects, root), queue_of(objects, root)
    await owner.put("purge", "proj_a", "vs_1")
    claim = await owner.claim()
    assert claim is not None
    for _ in range(10):
        assert await owner.keep(claim)
        assert await other.claim() is None
        await asyncio.sleep(LEASE_SECONDS / 4)


async def test_a_done_job_leaves_nothing(objects: Objects, root: MemoryRoot) -> None:
    queue = queue_of(objects, root)
    await queue.put("purge", "proj_a", "vs_1")
    claim = await queue.claim()
    assert claim is not None
    await queue.done(claim)
    assert await objects.list("queue") == []
    assert await objects.list("leases") == []


async def test_a_lease_without_its_job_is_cleared_away(objects: Objects, root: MemoryRoot) -> None:
    queue, other = queue_of(objects, root), queue_of(objects, root)
    await queue.put("purge", "proj_a", "vs_1")
    claim = await queue.claim()
    assert claim is not None
    await queue.drop(claim.job)  # and its process died before it removed the lease
    async with asyncio.timeout(60):
        while await objects.list("leases"):
            assert await other.claim() is None
            await asyncio.sleep(0.05)


async def test_the_marker_names_neither_tenant_nor_file(objects: Objects, root: MemoryRoot) -> None:
    await queue_of(objects, root).put("ingest", "proj_secret", "vs_1", file_id="file-1", attachment_id="vsf_1")
    for listed in await objects.list("queue"):
        assert b"secret" not in (await objects.get(listed.path) or b"")
        assert "secret" not in listed.path
