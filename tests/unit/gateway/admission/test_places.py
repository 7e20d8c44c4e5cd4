"""Places: in turn, fairly, given back whatever happens, and refused at once where it would take too long."""

import asyncio

import pytest
from cloister_common.errors import TooManyRequests
from cloister_gateway.admission import Admission, Place
from cloister_gateway.admission.queue import FairQueue
from cloister_gateway.settings import AdmissionSettings


async def ping() -> None:
    """Stands for Redis."""


def admission(places: int, **settings: float) -> Admission:
    values = {"most_generations": places, "least_generations": 1, "wait_seconds": 1000.0, **settings}
    return Admission(AdmissionSettings.model_validate(values), ping)


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for entry in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.add(entry[0], entry)
    assert [queue.take() for _ in range(len(queue))] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_one_tenant_alone_fills_half_the_queue_and_another_still_finds_room() -> None:
    queue: FairQueue[int] = FairQueue(100)
    while queue.fits("a"):
        queue.add("a", 0)
    assert len(queue) == 50
    while queue.fits("b"):
        queue.add("b", 0)
    assert len(queue) == 75
    assert queue.fits("c")


def test_nobody_is_told_less_than_stand_before_it() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for entry in ("a", "a", "a", "b", "c", "c"):
        queue.add(entry, entry)
    for tenant in ("a", "b", "c", "d"):
        expected = queue.ahead(tenant)
        marked: FairQueue[str] = FairQueue(100)
        for entry in ("a", "a", "a", "b", "c", "c"):
            marked.add(entry, entry)
        marked.add(tenant, "mine")
        order = [marked.take() for _ in range(7)]
        assert expected >= order.index("mine")


async def test_place_that_is_given_back_goes_to_the_next_who_waits() -> None:
    places = admission(1)
    first, second = places.ask("a"), places.ask("a")
    assert (first.waits, second.waits) == (False, True)
    waiting = asyncio.create_task(second.wait())
    await asyncio.sleep(0)
    first.give_back()
    await asyncio.wait_for(waiting, 60)
    assert (places.taken, places.waiting) == (1, 0)
    second.give_back()
    second.give_back()
    assert places.taken == 0


@pytest.mark.parametrize("granted_first", [False, True])
async def test_place_of_a_caller_that_leaves_while_it_waits_is_not_lost(granted_first: bool) -> None:
    places = admission(1)
    first, second, third = (places.ask("a") for _ in range(3))
    tasks = [asyncio.create_task(place.wait()) for place in (second, third)]
    await asyncio.sleep(0)
    if granted_first:
        first.give_back()  # its turn comes in the same moment in which it leaves
    tasks[0].cancel()
    if not granted_first:
        first.give_back()
    await asyncio.wait(tasks, timeout=60)
    assert tasks[0].cancelled()
    assert tasks[1].done()
    assert (places.taken, places.waiting) == (1, 0)
    third.give_back()
    assert places.taken == 0


async def test_refusal_says_when_and_spreads_those_who_come_back() -> None:
    places = admission(10, wait_seconds=0)
    held = [places.ask("a") for _ in range(10)]
    places.ask("a")  # the next in turn may always wait
    seconds: list[int] = []
    for _ in range(100):
        with pytest.raises(TooManyRequests) as refused:
            places.ask("a")
        assert refused.value.retry_after is not None
        seconds.append(refused.value.retry_after)
    assert seconds == sorted(seconds)
    assert seconds[0] <= 10
    assert seconds[-1] == 60, "whatever it would be"
    assert len(held) == 10


async def test_run_that_was_accepted_counts_and_is_never_refused() -> None:
    places = admission(1, waiting=0)
    async with places.counted(), places.counted():
        assert places.taken == 2
        with pytest.raises(TooManyRequests):
            places.ask("a")
    async with places.accepting("a"):
        assert places.taken == 1
    assert places.taken == 0


async def test_place_for_accepting_is_given_back_where_accepting_fails() -> None:
    places = admission(1)
    with pytest.raises(LookupError):
        async with places.accepting("a"):
            raise LookupError
    place: Place = places.ask("a")
    assert not place.waits
