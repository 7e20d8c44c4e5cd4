"""What a way costs a subject: for each token, for each turn outside its tokens, and until the first token."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.bench.gateway.meters import Usage
from tests.bench.gateway.subjects import MockPod, Subject
from tests.bench.gateway.ways import Outcome, Seat, open_seats

__all__ = ["Load", "PlainCost", "StreamCost", "median_cost", "plain_cost", "stream_cost"]


@dataclass(frozen=True, slots=True)
class Load:
    """What one round asks for.

    Attributes:
        streams: At once.
        tokens_per_second: Of each.
        short: Tokens of the short answers; LiteLLM makes none of fewer than 16.
        long: Tokens of the long ones.
        alone: Turns one after the other.
        connections: Of plain chat.
        plain_seconds: How long plain chat is asked for.
        settle_seconds: After the last event of a run there is work left that belongs to it (leases to give back,
            expiry to set): what was used is read so much later.
    """

    streams: int = 64
    tokens_per_second: float = 20.0
    short: int = 16
    long: int = 80
    alone: int = 10
    connections: int = 32
    plain_seconds: float = 2.0
    settle_seconds: float = 0.3


@dataclass(frozen=True, slots=True)
class StreamCost:
    """One round of streams.

    Attributes:
        token: For each token: long answers less short ones.
        turn: For each turn, without what its tokens cost.
        whole: For each token of the long answers, with the turn shared out over them.
        trips: Of one turn of 64 tokens at once, alone.
        held: Of one turn, before its first token: the pod is asked and does not answer yet.
        first_alone: Seconds to the first token of a turn that is alone.
        first_together: The median of all that began at once.
        failed: Turns without their whole answer.
        fault: What one of them said.
    """

    token: Usage
    turn: Usage
    whole: Usage
    trips: Usage
    held: Usage
    first_alone: float
    first_together: float
    failed: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class PlainCost:
    """One round of whole chat completions.

    Attributes:
        per_second: Answers in a second of the clock.
        request: For each.
        failed: Those that were none.
        fault: What one of them said.
    """

    per_second: float
    request: Usage
    failed: int
    fault: str | None


async def stream_cost(subject: Subject, pod: MockPod, way: str, load: Load) -> StreamCost:
    """One round of a way of streams."""

    async def settled() -> Usage:
        await asyncio.sleep(load.settle_seconds)
        return subject.usage()

    seats = await open_seats(subject, way, load.streams)
    try:
        pod.pace()
        outcomes = [await seats[0].turn(load.short) for _ in range(2)]
        before = await settled()
        alone = [await seats[0].turn(64) for _ in range(load.alone)]
        trips = (await settled() - before) / load.alone
        held = await _held(pod, seats[0], settled, load)
        pod.pace(tokens_per_second=load.tokens_per_second)
        begin = await settled()
        short = await asyncio.gather(*(seat.turn(load.short) for seat in seats))
        middle = await settled()
        long = await asyncio.gather(*(seat.turn(load.long) for seat in seats))
        end = await settled()
        outcomes += [*alone, *short, *long]
    finally:
        for seat in seats:
            seat.close()
    token = ((end - middle) - (middle - begin)) / (load.streams * (load.long - load.short))
    per_short = (middle - begin) / load.streams
    return StreamCost(
        token=token,
        turn=per_short - token * load.short,
        whole=(end - middle) / (load.streams * load.long),
        trips=trips,
        held=held,
        first_alone=statistics.median(one.first for one in alone),
        first_together=statistics.median(one.first for one in (*short, *long)),
        failed=len(_faults(outcomes)),
        fault=next(iter(_faults(outcomes)), None),
    )


async def plain_cost(subject: Subject, pod: MockPod, load: Load) -> PlainCost:
    """One round of plain chat."""
    seats = await open_seats(subject, "chat", load.connections)
    outcomes: list[Outcome] = []
    pod.pace()

    async def ask(seat: Seat, until: float) -> None:
        while time.perf_counter() < until:
            outcomes.append(await seat.turn(16))

    try:
        await asyncio.gather(*(seat.turn(16) for seat in seats))
        before = subject.usage()
        until = before.seconds + load.plain_seconds
        await asyncio.gather(*(ask(seat, until) for seat in seats))
        used = subject.usage() - before
    finally:
        for seat in seats:
            seat.close()
    faults = _faults(outcomes)
    done = len(outcomes)
    return PlainCost(done / used.seconds, used / done, len(faults), next(iter(faults), None))


def median_cost(costs: Sequence[Usage]) -> Usage:
    """The median of each part."""
    return Usage(*(statistics.median(part) for part in zip(*(cost.parts() for cost in costs), strict=True)))


async def _held(pod: MockPod, seat: Seat, settled: Callable[[], Awaitable[Usage]], load: Load) -> Usage:
    """What one turn takes before its first token: it is held in the pod, and looked at."""
    pod.pace(first_seconds=0.1 + 3 * load.settle_seconds)
    before = await settled()
    turn = asyncio.ensure_future(seat.turn(load.short))
    while not turn.done() and not pod.counts()["running"]:
        await asyncio.sleep(0.01)
    used = await settled() - before
    await turn
    return used


def _faults(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.fault for outcome in outcomes if outcome.fault is not None]
