"""What is reserved beside the write that needs it is given back where that fails, and never taken for made if it is
not."""

import asyncio
from collections.abc import Mapping

import pytest
from cloister_common.errors import TooManyRequests
from cloister_gateway.usage import Ending, Generation, PromptSize, Unmetered, Used
from cloister_gateway.usage.metering import reserved

GENERATION = Generation("resp_a", "proj_a", "key_a", "fake", "response", "user_a", 0)


class Meter(Unmetered):
    """Reserves once it may, and notes what is settled."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.may = asyncio.Event()
        self.settled: list[str] = []

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> None:
        await self.may.wait()
        if self.refusal is not None:
            raise self.refusal

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        return "held"

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        self.settled.append(generation.id)


async def test_a_refused_reservation_is_never_taken_for_one_that_is_made() -> None:
    meter = Meter(TooManyRequests("over a limit"))
    seen: list[str | None] = []

    async def turn() -> None:
        async with reserved(meter, GENERATION, most_output_tokens=1, prompt=PromptSize(1)) as reservation:
            seen.append(reservation.pending_at)
            meter.may.set()
            try:
                await reservation.made()
            finally:
                seen.append(reservation.pending_at)

    with pytest.raises(TooManyRequests):
        await turn()
    assert seen == ["held", "held"]
    assert meter.settled == []


async def test_what_is_made_need_not_be_looked_for() -> None:
    meter = Meter()
    async with reserved(meter, GENERATION, most_output_tokens=1, prompt=PromptSize(1)) as reservation:
        meter.may.set()
        told: Mapping[str, str] = await reservation.made()
        assert (told, reservation.pending_at) == ({}, None)
    assert meter.settled == []


@pytest.mark.parametrize("times", [1, 2])
async def test_what_is_made_is_given_back_where_its_caller_leaves_once_or_twice(times: int) -> None:
    meter, made = Meter(), asyncio.Event()

    async def turn() -> None:
        async with reserved(meter, GENERATION, most_output_tokens=1, prompt=PromptSize(1)) as reservation:
            meter.may.set()
            await reservation.made()
            made.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(turn())
    await made.wait()
    task.cancel()
    if times == 2:
        asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    assert meter.settled == [GENERATION.id]
