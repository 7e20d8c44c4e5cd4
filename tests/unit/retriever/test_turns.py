"""Turns: no tenant's files keep another's waiting, and who stood aside goes on."""

import asyncio
import random

import pytest
from cloister_common.vault import Keyring
from cloister_retriever.ingestion.turns import Turn, Turns
from cloister_retriever.jobs.queue import JobQueue, share_of
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords
from obstore.store import MemoryStore

from tests.support.retriever_memory import MemoryRoot


def turns(count: int, seconds: float = 0.0) -> Turns:
    return Turns(count, seconds, asyncio.Event())


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
    assert not one.has_room, "more are not begun, since those aside hold memory"
    for _ in range(3):
        one.make_way(["c"])
        changed = await aside(second)
        assert one.first_aside() is first
        one.resume(first)
        await asyncio.wait_for(going, 30)
        first, second, going = second, first, changed
    assert one.rank("c").turns == 0


async def test_jobs_come_by_the_rank_of_their_tenant_and_then_by_age() -> None:
    objects = Objects(MemoryStore())
    keyring = Keyring("retriever", MemoryRoot(), ObjectKeyStore(objects))
    queue = JobQueue(objects, keyring, SealedRecords(objects), lease_seconds=30)
    jobs = [await queue.put("purge", tenant, f"vs_{number}") for number, tenant in enumerate("aaabab")]
    a, b = share_of(jobs[0].name), share_of(jobs[3].name)
    assert await queue.shares() == {a, b}
    order = []
    while (claim := await queue.claim(lambda share: 0 if share == b else None)) is not None:
        order.append(claim.job)
    while (claim := await queue.claim()) is not None:
        order.append(claim.job)
    assert order == [jobs[3], jobs[5], jobs[0], jobs[1], jobs[2], jobs[4]]
    assert await queue.shares() == set()


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
