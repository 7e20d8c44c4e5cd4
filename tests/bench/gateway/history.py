"""How the cost of a turn grows with what was said before it."""

import asyncio
import statistics
from dataclasses import dataclass

from tests.bench.gateway.clients import HttpConnection, request_bytes
from tests.bench.gateway.subjects import MockPod, Subject
from tests.bench.gateway.table import print_table
from tests.bench.gateway.ways import SocketInConversation

__all__ = ["ITEMS", "Past", "history_table", "past_of"]

ITEMS = (5, 50, 200, 500, 1000)
_ITEM = "The fox went on through the wood, and came to a house in which there was light, and bread. " * 2
_ITEMS_AT_ONCE = 20
_TURNS = 5
_TOKENS = 16
_SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Past:
    """What a conversation of some length costs.

    Attributes:
        items: That it had before.
        turn: Seconds of the gateway's processor for a further turn.
        redis: Seconds of Redis's.
        sent: Bytes from Redis for it.
        tokenized: Calls of ``/tokenize`` for it.
        first: Seconds to its first token.
        one: Seconds of the gateway's processor for ``GET items?limit=1``.
        page: For ``limit=100``.
    """

    items: int
    turn: float
    redis: float
    sent: float
    tokenized: float
    first: float
    one: float
    page: float


async def past_of(subject: Subject, pod: MockPod, items: int) -> Past:
    """Fills a conversation with so many items, takes turns in it, and lists it.

    Raises:
        RuntimeError: Something was refused.
    """
    pod.pace()
    seat = SocketInConversation(subject)
    await seat.open()
    connection = await HttpConnection(subject.port).open()
    path = f"/v1/conversations/{seat.conversation}/items"
    try:
        await _fill(subject, connection, path, items)
        await seat.turn(_TOKENS)  # Whatever is remembered of a conversation is remembered from now on.
        await asyncio.sleep(_SETTLE_SECONDS)
        tokenized, before = pod.counts().get("/tokenize", 0), subject.usage()
        outcomes = [await seat.turn(_TOKENS) for _ in range(_TURNS)]
        await asyncio.sleep(_SETTLE_SECONDS)
        used = (subject.usage() - before) / _TURNS
        calls = (pod.counts().get("/tokenize", 0) - tokenized) / _TURNS
        one, page = [await _list_cost(subject, connection, f"{path}?limit={limit}") for limit in (1, 100)]
    finally:
        seat.close()
        connection.close()
    faults = [outcome.fault for outcome in outcomes if outcome.fault]
    if faults:
        raise RuntimeError(f"a turn after {items} items failed: {faults[0]}")
    first = statistics.median(outcome.first for outcome in outcomes)
    return Past(items, used.cpu, used.redis_cpu, used.sent, calls, first, one, page)


def history_table(pasts: dict[str, list[Past]]) -> None:
    """Prints them, one row for each length."""
    rows = [
        [
            name,
            f"{past.items:,}",
            f"{past.turn * 1e3:.1f} + {past.redis * 1e3:.1f}",
            f"{past.turn / found[0].turn:.2f}",
            f"{past.sent / 1024:,.0f}",
            f"{past.tokenized:.1f}",
            f"{past.first * 1e3:.0f}",
            f"{past.one * 1e3:.1f} / {past.page * 1e3:.1f}",
        ]
        for name, found in pasts.items()
        for past in found
    ]
    columns = [
        "history",
        "items",
        "CPU ms per turn",
        f"of that at {ITEMS[0]}",
        "KiB from Redis",
        "tokenize calls",
        "first token ms",
        "CPU ms of items?limit=1 / 100",
    ]
    print_table(f"a turn of {_TOKENS} tokens after so many items; CPU as gateway + Redis", columns, rows)


async def _fill(subject: Subject, connection: HttpConnection, path: str, items: int) -> None:
    for start in range(0, items, _ITEMS_AT_ONCE):
        some = [
            {"type": "message", "role": ("user", "assistant")[place % 2], "content": _ITEM}
            for place in range(start, min(items, start + _ITEMS_AT_ONCE))
        ]
        answer = await connection.send(request_bytes("POST", path, subject.key, {"items": some}))
        if answer.status != 200:
            raise RuntimeError(f"items were refused: {answer.body[:300]!r}")


async def _list_cost(subject: Subject, connection: HttpConnection, path: str) -> float:
    request = request_bytes("GET", path, subject.key)
    await connection.send(request)
    before = subject.usage()
    for _ in range(_TURNS):
        answer = await connection.send(request)
        if answer.status != 200:
            raise RuntimeError(f"items were not listed: {answer.body[:300]!r}")
    return (subject.usage() - before).cpu / _TURNS
