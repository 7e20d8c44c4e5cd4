"""How a gateway stands when more streams are asked for than its core carries."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.gateway.subjects import MockPod, Subject
from tests.bench.gateway.table import print_table
from tests.bench.gateway.ways import Outcome, open_seats

__all__ = ["STREAMS", "Stand", "overload_table", "stand_of"]

STREAMS = (50, 100, 200, 400, 1000, 2000, 3000)
_RATE = 20.0
_TOKENS = 100
_OPENED_AT_ONCE = 200
_SLOW_REFUSAL_SECONDS = 0.2
_STATUS_TOO_MANY = 429
_OVER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Stand:
    """What became of streams that were asked for at once.

    Attributes:
        asked: So many.
        whole: Those that came to their end with every token.
        refused: Those that were told to come later.
        failed: All others.
        unhelpful: Refusals that took too long, or did not say when to come again.
        first: Seconds to the first token, the 99th of a hundred; of those that came whole.
        late: Seconds behind the pod's pace, the 99th of a hundred pieces.
        seconds: Until the last of them had ended.
        token: Seconds of the gateway's processor for each token.
        fault: What one of the failed said.
    """

    asked: int
    whole: int
    refused: int
    failed: int
    unhelpful: int
    first: float
    late: float
    seconds: float
    token: float
    fault: str | None


async def stand_of(subject: Subject, pod: MockPod, way: str, asked: int, *, tokens: int = _TOKENS) -> Stand:
    """Asks for so many streams of 20 tokens a second at once."""
    pod.pace(tokens_per_second=_RATE)
    seats = []
    for start in range(0, asked, _OPENED_AT_ONCE):
        seats += await open_seats(subject, way, min(_OPENED_AT_ONCE, asked - start))
    before = subject.usage()
    try:
        outcomes = await asyncio.gather(*(seat.turn(tokens) for seat in seats))
    finally:
        for seat in seats:
            seat.close()
    used = subject.usage() - before
    await _all_over(pod)
    whole = [one for one in outcomes if one.fault is None]
    refused = [one for one in outcomes if _refused(one)]
    failed = [one for one in outcomes if one.fault is not None and not _refused(one)]
    return Stand(
        asked=asked,
        whole=len(whole),
        refused=len(refused),
        failed=len(failed),
        unhelpful=sum(not one.retry_after or one.seconds > _SLOW_REFUSAL_SECONDS for one in refused),
        first=_p99([one.first for one in whole]),
        late=_p99([late for one in whole for late in one.late(_RATE)]),
        seconds=used.seconds,
        token=used.cpu / max(1, sum(one.tokens for one in outcomes)),
        fault=failed[0].fault if failed else None,
    )


def overload_table(way: str, stands: dict[str, list[Stand]]) -> None:
    """Prints them, one row for each number of streams."""
    rows = [
        [
            name,
            f"{stand.asked:,}",
            f"{stand.whole:,}",
            f"{stand.refused:,} ({stand.unhelpful:,})",
            f"{stand.failed:,}",
            f"{stand.first:.2f}",
            f"{stand.late:.2f}",
            f"{stand.seconds:.0f}",
            f"{stand.token * 1e6:.0f}",
        ]
        for name, found in stands.items()
        for stand in found
    ]
    columns = [
        "streams",
        "asked for",
        "whole",
        "429 (late or bare)",
        "failed",
        "p99 first s",
        "p99 late s",
        "seconds",
        "CPU µs per token",
    ]
    faults = [f"  {name}: {one.asked}: {one.fault}" for name, found in stands.items() for one in found if one.fault]
    print_table(f"{way}, {_TOKENS} tokens at {_RATE:g} a second, all asked for at once", columns, rows, faults)


async def _all_over(pod: MockPod) -> None:
    """Waits until what was begun has ended, since a run outlives its reader; not for ever, since some do not end."""
    deadline = time.monotonic() + _OVER_SECONDS
    while pod.counts()["running"] and time.monotonic() < deadline:
        await asyncio.sleep(0.5)


def _refused(outcome: Outcome) -> bool:
    said = outcome.fault or ""
    return outcome.status == _STATUS_TOO_MANY or '"status":429' in said


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[-1] if len(values) > 1 else sum(values)
