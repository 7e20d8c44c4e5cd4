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
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

from cloister_common.ids import new_id

from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.served import Served

__all__ = [
    "Both",
    "Ending",
    "Generation",
    "InputSplit",
    "Kind",
    "Meter",
    "Metered",
    "Metering",
    "PromptSize",
    "Reservation",
    "Unmetered",
    "Used",
    "reserved",
]

Kind = Literal["response", "chat", "completions", "embeddings", "rerank", "ingestion", "summary"]

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
        user: Who it is for within the project (`Principal.payer`); empty where what is stored does not say.
        begun: When (Unix seconds); 0 where nobody knows. The same whoever settles it.
        batch: Whether it is a line of a batch.
    """

    id: str
    tenant: str
    key_id: str
    model: str
    kind: Kind
    user: str = field(default="", compare=False)
    begun: int = field(default=0, compare=False)
    batch: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class PromptSize:
    """How long a prompt is, in tokens, as far as that is known before a model reads it.

    Attributes:
        at_most: It has no more.
        count: Asks the model's own tokenizer, a round trip away; None where there is none to ask.
        most_together: The prompt and all answers have no more than this together, where the context says so.
        exact: Whether ``at_most`` is how many it has.
    """

    at_most: int
    count: Callable[[], Awaitable[int]] | None = None
    most_together: int | None = None
    exact: bool = False


class InputSplit(NamedTuple):
    """A prompt's tokens by its parts, which sum to all of them.

    Attributes:
        system: Instructions.
        history: What was said before.
        retrieved: Excerpts of documents.
        tools: Functions that may be called.
        new: What the caller sent now.
    """

    system: int = 0
    history: int = 0
    retrieved: int = 0
    tools: int = 0
    new: int = 0


@dataclass(slots=True)
class Used:
    """What a generation used, in tokens.

    Attributes:
        prompt: Read by the model; 0 where it did not say.
        cached: Of those, found in its cache.
        output: Written by it.
        reasoning: Of those, what it thought, as far as it says.
        exact: Whether the model itself counted. If not, ``output`` is the number of events it was streamed in.
        silent: Whether nothing is known yet, of a call that is answered as a whole.
        served: How it came.
        split: The prompt by its parts, where that is known.
    """

    prompt: int = 0
    cached: int = 0
    output: int = 0
    exact: bool = True
    reasoning: int = 0
    silent: bool = False
    served: Served = field(default_factory=Served, compare=False)
    split: InputSplit | None = field(default=None, compare=False)


class Meter(Protocol):
    """What stands behind the seam."""

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> Mapping[str, str] | None:
        """Reserves what ``generation`` may use; ``prompt_tokens`` is None where nobody can say.

        Once more for the same generation, this takes the place of what it had reserved.

        Returns:
            Headers that tell its caller how it stands, if there is something to tell.

        Raises:
            TooManyRequests: It is over a limit. Then, as after any error, nothing is reserved.
        """
        ...

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        """The hash of Redis that will have the generation's id as a field once this is reserved, where a write that
        needs it may be sent right behind; None where nothing is reserved, or it should be seen first whether it is."""
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
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> None:
        return

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        return None

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        return


class Both:
    """Two meters behind one another: the first may refuse, the second takes note.

    Args:
        limits: Reserves; what it tells is told.
        ledger: Hears of what was reserved, and of every settlement.
    """

    def __init__(self, limits: Meter, ledger: Meter) -> None:
        self._limits = limits
        self._ledger = ledger

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> Mapping[str, str] | None:
        """As `Meter.reserve`."""
        told = await self._limits.reserve(
            generation, most_output_tokens=most_output_tokens, prompt_tokens=prompt_tokens
        )
        await self._ledger.reserve(generation, most_output_tokens=most_output_tokens, prompt_tokens=prompt_tokens)
        return told

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        """As `Meter.held_at`."""
        return self._limits.held_at(generation, prompt_tokens)

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        """As `Meter.settle`."""
        self._limits.settle(generation, used, ending)
        self._ledger.settle(generation, used, ending)


class Metered:
    """``async with`` around a stateless call: reserved before, settled at its end, however it ends.

    Attributes:
        used: What the call used so far; whoever makes the call says it here.
        headers: What tells its caller how it stands.
        parts: Tells the parts of a prompt of so many tokens, where somebody can: asked at the end, when nobody waits.
    """

    __slots__ = ("_generation", "_meter", "_most", "_prompt", "headers", "parts", "used")

    def __init__(
        self, meter: Meter, generation: Generation, *, most_output_tokens: int, prompt: PromptSize | None = None
    ) -> None:
        self._meter = meter
        self._generation = generation
        self._most = most_output_tokens
        self._prompt = prompt
        self.used = Used()
        self.headers: Mapping[str, str] = {}
        self.parts: Callable[[int], InputSplit] | None = None

    async def __aenter__(self) -> Self:
        told = await self._meter.reserve(self._generation, most_output_tokens=self._most, prompt_tokens=self._prompt)
        self.headers = told or {}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        used = self.used
        if self.parts is not None and used.split is None and used.exact and used.prompt:
            used.split = self.parts(used.prompt)
        self._meter.settle(self._generation, used, _ending(error))


class Metering:
    """Puts stateless calls behind the meter: what their routes ask for.

    Args:
        meter: What stands behind the seam.
        batch: Whether the calls are lines of batches.
    """

    def __init__(self, meter: Meter, *, batch: bool = False) -> None:
        self._meter = meter
        self._batch = batch

    def around(
        self,
        caller: Principal,
        model: str,
        kind: Kind,
        *,
        most_output_tokens: int = 0,
        prompt: PromptSize | None = None,
    ) -> Metered:
        """What goes around one call that ``caller`` makes of ``model``."""
        generation = Generation(
            new_id("gen_"),
            caller.tenant,
            caller.credential.id,
            model,
            kind,
            caller.payer,
            int(time.time()),
            self._batch,
        )
        return Metered(self._meter, generation, most_output_tokens=most_output_tokens, prompt=prompt)


class Reservation:
    """What is reserved, or is being reserved beside the write that needs it.

    Args:
        work: Reserves; gives the headers that tell the caller how it stands.
        held_at: As `Meter.held_at` gives it, where that write may be sent meanwhile.
    """

    def __init__(self, work: asyncio.Future[Mapping[str, str] | None], held_at: str | None = None) -> None:
        self._work = work
        self._held_at = held_at

    @property
    def pending_at(self) -> str | None:
        """Where it has to stand for that write; None where it is known to, or need not."""
        is_made = self._work.done() and not self._work.cancelled() and self._work.exception() is None
        return None if is_made else self._held_at

    async def made(self) -> Mapping[str, str]:
        """The headers that tell the caller how it stands, once it is made. Raises as `Meter.reserve`."""
        return await self._work or {}


@asynccontextmanager
async def reserved(
    meter: Meter, generation: Generation, *, most_output_tokens: int, prompt: PromptSize
) -> AsyncIterator[Reservation]:
    """Reserved for what outlives the block, and is settled by whoever ends that; settled here if the block fails.

    Where `Meter.held_at` allows it the block begins as soon as the reservation is on its way to Redis, so that both
    reach the disk together. It must not succeed before `Reservation.made`.
    """
    held_at = meter.held_at(generation, prompt)
    reserving = meter.reserve(generation, most_output_tokens=most_output_tokens, prompt_tokens=prompt)
    work: asyncio.Future[Mapping[str, str] | None]
    if held_at is None:
        work = asyncio.get_running_loop().create_future()
        work.set_result(await reserving)
    else:
        work = asyncio.ensure_future(reserving)
    try:
        if held_at is not None:
            # It goes first: what is sent in one turn of the event loop goes together, in its order.
            await asyncio.sleep(0)
        yield Reservation(work, held_at)
        await work
    except BaseException as error:
        ending = _ending(error)

        def give_back(done: asyncio.Future[Mapping[str, str] | None]) -> None:
            if not done.cancelled() and done.exception() is None:
                meter.settle(generation, Used(), ending)

        # (Whoever waited for that here could be cancelled once more, and what is reserved would stay.)
        if work.cancel():
            work.add_done_callback(give_back)
        else:
            give_back(work)
        raise


def _ending(error: BaseException | None) -> Ending:
    if error is None:
        return "completed"
    return "cancelled" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "failed"
