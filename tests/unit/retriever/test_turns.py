"""Turns: no tenant's files keep another's waiting, and who stood aside goes on."""

import asyncio
import random

import pytest
from cloister_common.vault import Keyring
from cloister_retriever.ingestion.turns import Turn, Turns
from cloister_retriever.jobs.names import JobName
from cloister_retriever.jobs.queue import Job, JobQueue
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords
from obstore.store import MemoryStore

from tests.support.retriever_memory import MemoryRoot


def turns(count: int, seconds: float = 0.0) -> Turns:
    return Turns(count, seconds, asyncio.Event())


def share_of(job: Job) -> str:
    return JobName.read(job.name).share


async def aside(turn: Turn) -> "asyncio.Task[None]":
    """Lets the holder do as it was asked."""
    assert turn.is_asked
    going = asyncio.create_task(turn.held())
    await asyncio.sleep(0)
    assert turn.is_aside
    return going


async def test_a_tenant_without_a_turn_comes_before_one_with_many_files() -> None:
    both = turns(3)
    first = both.begin("a")
    assert both.rank("b") < both.rank("a")
    both.end(first)
    assert both.rank("b") < both.rank("a"), "who had a turn comes after who had none"
    both.end(both.begin("b"))
    assert both.rank("a") < both.rank("b"), "and they alternate"


async def test_the_longest_job_of_the_tenant_with_most_turns_stands_aside_and_goes_on() -> None:
    two = turns(2)
    old, young = two.begin("a"), two.begin("a")
    assert not two.is_free
    two.make_way(["b"])
    assert (old.is_asked, young.is_asked) == (True, False)
    going = await aside(old)
    assert two.is_free
    other = two.begin("b")
    two.make_way([])
    assert not young.is_asked, "each has its share"
    two.end(other)
    waiting = two.first_aside()
    assert waiting is old
    two.resume(old)
    await asyncio.wait_for(going, 30)
    assert not old.is_asked


async def test_nobody_is_asked_before_his_time_or_for_one_of_his_own() -> None:
    fresh = turns(1, seconds=60)
    held = fresh.begin("a")
    fresh.make_way(["b"])
    assert not held.is_asked
    worn = turns(1)
    held = worn.begin("a")
    worn.make_way(["a"])
    worn.make_way([])
    assert not held.is_asked


async def test_two_slow_files_of_two_tenants_take_turns_on_one_worker() -> None:
    one = turns(1)
    first = one.begin("a")
    one.make_way(["b"])
    going = await aside(first)
    second = one.begin("b")
    assert one.has_room, "for a small file"
    one.end(one.begin("c"))
    for _ in range(3):
        one.make_way(["c"])
        changed = await aside(second)
        assert one.first_aside() is first
        one.resume(first)
        await asyncio.wait_for(going, 30)
        first, second, going = second, first, changed
    assert one.rank("c").turns == 0


async def test_a_tenants_small_files_come_before_its_large_ones_but_not_for_ever() -> None:
    def due(seconds: int, size: int) -> float:
        return JobName.read(str(JobName.made(seconds * 10**9, "a", size, "vsf_1"))).due

    large = due(0, 200 * 2**20)
    assert due(60, 100) < due(60, 10 * 2**20) < large
    assert due(500, 100) < large < due(700, 100)
    assert JobName.read("0000000000000000007-share-0123").due == 7e-9 + 2.0**-17, "of the version before"


async def test_jobs_of_small_files_can_be_asked_for_alone_and_jobs_elsewhere_are_counted() -> None:
    objects = Objects(MemoryStore())
    root = MemoryRoot()
    here, there = (
        JobQueue(objects, Keyring("retriever", root, ObjectKeyStore(objects)), SealedRecords(objects), lease_seconds=30)
        for _ in range(2)
    )
    large = await here.put("ingest", "a", "vs_1", file_id="file-1", attachment_id="vsf_1", size=2**20)
    small = await here.put("ingest", "a", "vs_1", file_id="file-2", attachment_id="vsf_2", size=2**10)
    share = share_of(small)
    claim = await there.claim(small=True)
    assert claim is not None
    assert claim.job == small
    assert await there.claim(small=True) is None
    assert (await here.shares(), here.elsewhere(share)) == ({share: False}, 1)
    claim = await here.claim()
    assert claim is not None
    assert claim.job == large
    assert here.elsewhere(share) == 1, "one's own is not elsewhere"
    await here.put_again(large)
    again = await there.claim()
    assert again is not None
    assert again.job.name != large.name
    assert again.job.model_copy(update={"name": large.name}) == large
    assert share_of(again.job) == share


async def test_a_job_knows_how_many_of_its_tenant_come_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_retriever.jobs.queue._LOOK_SECONDS", -1)
    objects = Objects(MemoryStore())
    keyring = Keyring("retriever", MemoryRoot(), ObjectKeyStore(objects))
    queue = JobQueue(objects, keyring, SealedRecords(objects), lease_seconds=30)

    async def put(tenant: str, attachment_id: str, size: int) -> None:
        await queue.put("ingest", tenant, "vs_1", file_id="file-1", attachment_id=attachment_id, size=size)

    await put("a", "vsf_large", 2**30)
    for number in range(3):
        await put("a", f"vsf_{number}", 10)
    await put("b", "vsf_other", 10)
    assert await queue.standing("a") == {"vsf_0": 0, "vsf_1": 1, "vsf_2": 2, "vsf_large": 3}
    assert await queue.standing("b") == {"vsf_other": 0}
    assert await queue.claim() is not None
    assert await queue.standing("a") == {"vsf_1": 0, "vsf_2": 1, "vsf_large": 2}


async def test_jobs_come_by_the_rank_of_their_tenant_and_then_by_age() -> None:
    objects = Objects(MemoryStore())
    keyring = Keyring("retriever", MemoryRoot(), ObjectKeyStore(objects))
    queue = JobQueue(objects, keyring, SealedRecords(objects), lease_seconds=30)
    jobs = [await queue.put("purge", tenant, f"vs_{number}") for number, tenant in enumerate("aaabab")]
    a, b = share_of(jobs[0]), share_of(jobs[3])
    assert await queue.shares() == {a: True, b: True}
    order = []
    while (claim := await queue.claim(lambda share: 0 if share == b else None)) is not None:
        order.append(claim.job)
    while (claim := await queue.claim()) is not None:
        order.append(claim.job)
    assert order == [jobs[3], jobs[5], jobs[0], jobs[1], jobs[2], jobs[4]]
    assert await queue.shares() == {}


async def test_a_turn_is_kept_for_small_files_and_asked_for_soon_when_one_is_slow() -> None:
    one = turns(1, seconds=60)
    large = one.begin("a")
    assert (one.is_free, one.is_small_free) == (False, True)
    slow = one.begin("a")
    assert (large.small, slow.small, one.is_small_free) == (False, True, False)
    one.make_way(["b"], ["b"])
    assert not slow.is_asked, "it has just begun"
    slow.began -= 2
    one.make_way(["b"])
    assert not slow.is_asked, "the turn is none for large files"
    one.make_way(["b"], ["b"])
    assert (large.is_asked, slow.is_asked) == (False, True)
    going = await aside(slow)
    assert one.begin("b").small
    one.end(large)
    one.resume(slow)
    await asyncio.wait_for(going, 30)
    assert not slow.small, "the large file's turn was free"


async def test_who_is_served_by_other_processes_comes_after_who_is_not() -> None:
    shared = Turns(1, 0.0, asyncio.Event(), lambda share: 2 if share == "a" else 0)
    shared.begin("b")
    assert shared.rank("b") < shared.rank("a")


@pytest.mark.parametrize("workers", [1, 2, 3])
async def test_every_tenant_gets_on_whatever_the_others_have(workers: int) -> None:
    """A long run of the rules alone: a worker's poll is a step, slow jobs never end by themselves."""
    chance = random.Random(workers)
    all_turns = turns(workers)
    slow = [f"slow{number}" for number in range(workers)]
    running: list[tuple[Turn, int]] = []
    goers: list[asyncio.Task[None]] = []
    waited = 0
    quick = 0
    for step in range(300):
        waiting = [*slow, f"quick{quick}"]
        if not all_turns.is_free:
            all_turns.make_way(waiting if all_turns.has_room else [])
        else:
            standing = all_turns.first_aside()
            best = min(waiting, key=all_turns.rank)
            if all_turns.has_room and (standing is None or all_turns.rank(best) < all_turns.rank(standing.share)):
                running.append((all_turns.begin(best), step))
                if best.startswith("quick"):
                    quick, waited = quick + 1, 0
            elif standing is not None:
                all_turns.resume(standing)
        for turn, began in list(running):
            if turn.is_asked and not turn.is_aside:
                goers.append(await aside(turn))
            elif turn.share.startswith("quick") and not turn.is_aside and step - began >= chance.randint(1, 3):
                all_turns.end(turn)
                running.remove((turn, began))
        await asyncio.sleep(0)
        waited += 1
        assert waited < 10 * workers, "a quick file waits a few looks at most"
    assert quick > 20
    for goer in goers:
        goer.cancel()
    await asyncio.gather(*goers, return_exceptions=True)
