"""In a rush those who have a place begin a few at a time, and what else there is to do is done between them."""

import asyncio

from cloister_gateway.admission.doorway import Doorway


async def enter(doorway: Doorway, told: list[str], name: str) -> None:
    await doorway.go_through()
    told.append(name)


async def test_who_comes_in_a_rush_begins_in_order_and_others_are_answered_between() -> None:
    doorway, told = Doorway(), list[str]()
    names = [str(number) for number in range(100)]

    async def refused() -> None:
        told.append("refused")

    tasks = [asyncio.ensure_future(enter(doorway, told, name)) for name in names]
    tasks.append(asyncio.ensure_future(refused()))
    await asyncio.gather(*tasks)
    assert [name for name in told if name != "refused"] == names
    assert told.index("refused") < 20


async def test_who_leaves_the_rush_keeps_nobody_out() -> None:
    doorway, told = Doorway(), list[str]()
    tasks = [asyncio.ensure_future(enter(doorway, told, str(number))) for number in range(100)]
    await asyncio.sleep(0)
    for task in tasks[16:90]:
        task.cancel()
    await asyncio.wait(tasks)
    await enter(doorway, told, "later")
    assert told == [*map(str, range(16)), *map(str, range(90, 100)), "later"]


async def test_whoever_comes_alone_begins_at_once() -> None:
    doorway = Doorway()
    for _ in range(3):
        going = doorway.go_through()
        try:
            going.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waits")
        await asyncio.sleep(0)
