"""The seam around every generation: what it may use is reserved before it, what it used is settled after it.

Everything that makes a model work for a caller passes here once: a turn of a response, a completion of a chat or a
text, embeddings, a rerank. What comes behind the seam (limits, records of usage) is a `Meter`; `Unmetered`, which does
nothing, is the default.

A stateless call is reserved and settled by one gateway, around the call (`Metered`). A response is reserved where it
is taken, while its caller can still be refused, and settled where its run ends, which may be on another gateway: so a
reservation is known by the generation's id alone, and what was reserved for the runs of a gateway that died stands
until another has ended them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from cloister_common.ids import new_id

from cloister_gateway.identity.principal import Principal

__all__ = ["Ending", "Generation", "Kind", "Meter", "Metered", "Metering", "Unmetered", "Used", "reserved"]

Kind = Literal["response", "chat", "completions", "embeddings", "rerank"]

Ending = Literal["completed", "failed", "cancelled"]
"""``completed`` also where the answer reached its greatest length; ``cancelled`` whoever it was that stopped it: a
caller that left, or whose credential ended, among them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What is asked of a model, and for whom.

    Attributes:
        id: Of this generation alone; of a response its own.
        tenant: The project.
        key_id: The credential; empty where what is stored of a response does not say.
        model: Its public name; empty where what is stored of a response does not open.
        kind: Of the call.
    """

    id: str
    tenant: str
    key_id: str
    model: str
    kind: Kind


@dataclass(slots=True)
class Used:
    """What a generation used, in tokens.

    Attributes:
        prompt: Read by the model; 0 where it did not say.
        cached: Of those, found in its cache.
        output: Written by it.
        exact: Whether the model itself counted. If not, ``output`` is the number of events it was streamed in.
    """

    prompt: int = 0
    cached: int = 0
    output: int = 0
    exact: bool = True


class Meter(Protocol):
    """What stands behind the seam."""

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: int | None = None
    ) -> None:
        """Reserves what ``generation`` may use; ``prompt_tokens`` is None where nobody has counted yet.

        Raises:
            TooManyRequests: It is over a limit. Then, as after any error, nothing is reserved.
        """
        ...

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        """Ends the reservation. Called while callers leave and tasks are cancelled, so it must not wait and must not
        raise; what takes time it hands to a task of its own.

        Once for each reservation. Only where a store failed in between may it come again: the last one counts.
        """
        ...


class Unmetered:
    """Reserves and records nothing."""

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: int | None = None
    ) -> None:
        return

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        return


class Metered:
    """``async with`` around a stateless call: reserved before, settled at its end, however it ends.

    Attributes:
        used: What the call used so far; whoever makes the call says it here.
    """

    __slots__ = ("_generation", "_meter", "_most", "used")

    def __init__(self, meter: Meter, generation: Generation, *, most_output_tokens: int) -> None:
        self._meter = meter
        self._generation = generation
        self._most = most_output_tokens
        self.used = Used()

    async def __aenter__(self) -> Self:
        await self._meter.reserve(self._generation, most_output_tokens=self._most)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._meter.settle(self._generation, self.used, _ending(error))


class Metering:
    """Puts stateless calls behind the meter: what their routes ask for.

    Args:
        meter: What stands behind the seam.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def around(self, caller: Principal, model: str, kind: Kind, *, most_output_tokens: int = 0) -> Metered:
        """What goes around one call that ``caller`` makes of ``model``."""
        generation = Generation(new_id("gen_"), caller.tenant, caller.credential.id, model, kind)
        return Metered(self._meter, generation, most_output_tokens=most_output_tokens)


@asynccontextmanager
async def reserved(meter: Meter, generation: Generation, *, most_output_tokens: int) -> AsyncIterator[None]:
    """Reserved for what outlives the block, and is settled by whoever ends that; settled here if the block fails."""
    await meter.reserve(generation, most_output_tokens=most_output_tokens)
    try:
        yield
    except BaseException as error:
        meter.settle(generation, Used(), _ending(error))
        raise


def _ending(error: BaseException | None) -> Ending:
    if error is None:
        return "completed"
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "failed"
