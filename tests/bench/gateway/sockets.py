"""What sockets cost: many that watch one run, and many that are only open."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from tests.bench.gateway.clients import SocketConnection
from tests.bench.gateway.mock_events import TOKEN
from tests.bench.gateway.subjects import MockPod, Subject
from tests.bench.gateway.table import print_table
from tests.bench.gateway.ways import SocketInConversation

__all__ = ["PACES", "WATCHERS", "FanOut", "Idle", "fan_out_of", "fan_out_table", "idle_of", "idle_table"]

WATCHERS = (1, 10, 50, 200, 500)
PACES = ((50.0, 200), (1000.0, 1000))
"""Tokens a second, and how many: an answer as models write it, and one that comes faster than it can be sent on."""

_SETTLE_SECONDS = 0.3
_IDLE_SECONDS = 3.0
_LONG_ENOUGH_SECONDS = 60.0
_OPENED_AT_ONCE = 100
_TOKEN = TOKEN.encode()
_DELTA = b"output_text.delta"


@dataclass(frozen=True, slots=True)
class FanOut:
    """What it costs that many watch one run.

    Attributes:
        watchers: Sockets that follow its conversation.
        rate: Tokens a second.
        messages: Delivered for each second of the gateway's processor.
        tokens: Delivered for each second of it.
        late: Seconds behind the pod, the 99th of a hundred deliveries.
        missing: Watchers that did not get every token.
    """

    watchers: int
    rate: float
    messages: float
    tokens: float
    late: float
    missing: int


@dataclass(frozen=True, slots=True)
class Idle:
    """What a socket costs that is only open.

    Attributes:
        sockets: So many were opened.
        bytes: Of the gateway's memory for each.
        opening: Seconds of its processor to open one.
        keeping: Seconds of it for each and second.
    """

    sockets: int
    bytes: float
    opening: float
    keeping: float


class _Watchers:
    """Sockets that follow a conversation, and what each of them got."""

    def __init__(self, subject: Subject, number: int) -> None:
        self.messages = 0
        self.came = [0] * number
        self.arrivals: list[tuple[float, int]] = []
        self._sockets = [
            SocketConnection(subject.port, "/v1/responses", subject.key, self._reader(place)) for place in range(number)
        ]

    async def follow(self, conversation: str) -> None:
        """Opens them, and waits until all of them are told that they follow."""
        await _open(self._sockets)
        message = orjson.dumps({"type": "conversation.subscribe", "conversation_id": conversation})
        for socket in self._sockets:
            socket.send(message)
        await _until(lambda: self.messages >= len(self._sockets))

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()

    def late(self, rate: float) -> list[float]:
        """Of each delivery, the seconds after the moment in which the pod had its last token ready."""
        first = min((moment for moment, _ in self.arrivals), default=0.0)
        return [max(0.0, moment - first - (number - 1) / rate) for moment, number in self.arrivals]

    def _reader(self, place: int) -> Callable[[bytes], None]:
        def read(message: bytes) -> None:
            self.messages += 1
            if _DELTA in message[:64]:
                self.came[place] += message.count(_TOKEN)
                self.arrivals.append((time.perf_counter(), self.came[place]))

        return read


async def fan_out_of(subject: Subject, pod: MockPod, watchers: int, rate: float, tokens: int) -> FanOut:
    """Has so many sockets follow a conversation in which an answer is written at ``rate`` tokens a second."""
    pod.pace()
    seat = SocketInConversation(subject)
    await seat.open()
    await seat.turn(2)
    watching = _Watchers(subject, watchers)
    try:
        await watching.follow(str(seat.conversation))
        pod.pace(tokens_per_second=rate)
        await asyncio.sleep(_SETTLE_SECONDS)
        before, watching.messages = subject.usage(), 0
        await seat.turn(tokens)
        await _until(lambda: min(watching.came) >= tokens)
        await asyncio.sleep(_SETTLE_SECONDS)
        used = subject.usage() - before
    finally:
        watching.close()
        seat.close()
    return FanOut(
        watchers=watchers,
        rate=rate,
        messages=watching.messages / used.cpu,
        tokens=sum(watching.came) / used.cpu,
        late=statistics.quantiles(watching.late(rate), n=100)[-1],
        missing=sum(count != tokens for count in watching.came),
    )


async def idle_of(subject: Subject, sockets: int = 1000, *, seconds: float = _IDLE_SECONDS) -> Idle:
    """Opens sockets after half as many were opened before, so that the memory is theirs, and not of the first ones."""

    def some(number: int) -> list[SocketConnection]:
        return [SocketConnection(subject.port, "/v1/responses", subject.key, lambda _: None) for _ in range(number)]

    opened = some(sockets // 2)
    await _open(opened)
    await asyncio.sleep(_SETTLE_SECONDS)
    before, memory = subject.usage(), subject.resident_bytes
    more = some(sockets)
    await _open(more)
    opening = subject.usage() - before
    await asyncio.sleep(_SETTLE_SECONDS)
    grown = subject.resident_bytes - memory
    before = subject.usage()
    await asyncio.sleep(seconds)
    kept = subject.usage() - before
    for socket in (*opened, *more):
        socket.close()
    return Idle(sockets, grown / sockets, opening.cpu / sockets, kept.cpu / kept.seconds / (sockets + sockets // 2))


def fan_out_table(found: dict[str, list[FanOut]]) -> None:
    """Prints them, one row for each number of watchers and rate."""
    rows = [
        [
            name,
            f"{one.watchers}",
            f"{one.rate:g}",
            f"{one.messages:,.0f}",
            f"{one.tokens:,.0f}",
            f"{one.late * 1e3:,.0f}",
            f"{one.missing}",
        ]
        for name, all_of_it in found.items()
        for one in all_of_it
    ]
    columns = ["fan-out", "sockets", "tokens/s", "messages per CPU s", "tokens per CPU s", "p99 late ms", "missing"]
    print_table("one run, watched by so many sockets", columns, rows)


def idle_table(found: dict[str, Idle]) -> None:
    """Prints them."""
    rows = [
        [
            name,
            f"{one.sockets:,}",
            f"{one.bytes / 1024:.1f}",
            f"{one.opening * 1e3:.2f}",
            f"{one.keeping * 1e6:.1f}",
        ]
        for name, one in found.items()
    ]
    print_table("open sockets", ["idle", "sockets", "KiB each", "CPU ms to open", "CPU µs each and second"], rows)


async def _open(sockets: list[SocketConnection]) -> None:
    for start in range(0, len(sockets), _OPENED_AT_ONCE):
        await asyncio.gather(*(socket.open() for socket in sockets[start : start + _OPENED_AT_ONCE]))


async def _until(condition: Callable[[], bool]) -> None:
    """Waits for it, for as long as a run may take; what is missing then is counted."""
    deadline = time.perf_counter() + _LONG_ENOUGH_SECONDS
    while not condition() and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
