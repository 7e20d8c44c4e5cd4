"""The ways in which a subject is asked for an answer, each as a seat: one client that takes one turn after the other.

A seat reads as a caller does, and notes when the first token came, how many came, and how late each was against the
pod's pace. It looks for fixed bytes instead of parsing what it reads, since it shares a core with the pod and Redis.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.bench.gateway.clients import HttpConnection, SocketConnection, request_bytes
from tests.bench.gateway.mock_events import TOKEN
from tests.bench.gateway.subjects import Subject

__all__ = ["QUESTION", "WAYS", "Outcome", "Seat", "SocketInConversation", "open_seats"]

QUESTION = "Tell me a story about a fox."
_TOKEN = TOKEN.encode()
_DELTA = b"response.output_text.delta"
_ENDS = (b'"type":"response.completed"', b'"type":"response.incomplete"')
_FAULTS = (b'"type":"response.failed"', b'"type":"error"')


@dataclass(slots=True)
class Outcome:
    """What became of one turn.

    Attributes:
        status: Of HTTP; 0 where there was none.
        tokens: That arrived.
        first: Seconds until the first of them.
        seconds: Until the end.
        arrivals: When each piece came, in seconds after the first token, with the tokens so far.
        fault: What went wrong.
        retry_after: What a refusal said.
    """

    status: int = 0
    tokens: int = 0
    first: float = 0.0
    seconds: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    fault: str | None = None
    retry_after: str | None = None

    def late(self, tokens_per_second: float) -> list[float]:
        """For each piece, the seconds it came after the moment in which the pod had its last token ready."""
        return [max(0.0, after - (tokens - 1) / tokens_per_second) for after, tokens in self.arrivals]


class _Clock:
    """Fills an outcome while tokens come."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._started = time.perf_counter()

    def came(self, tokens: int) -> None:
        if not tokens:
            return
        outcome, now = self.outcome, time.perf_counter() - self._started
        outcome.first = outcome.first or now
        outcome.tokens += tokens
        outcome.arrivals.append((now - outcome.first, outcome.tokens))

    def end(self, asked: int) -> Outcome:
        self.outcome.seconds = time.perf_counter() - self._started
        if self.outcome.fault is None and self.outcome.tokens != asked:
            self.outcome.fault = f"{self.outcome.tokens} of {asked} tokens"
        return self.outcome


class Seat(ABC):
    """One client of a subject. Inherited by each way."""

    wait_seconds = 120.0

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    async def open(self) -> None:  # noqa: B027 - most ways begin with the turn itself
        """What comes before the first turn, and is no part of it."""

    async def turn(self, tokens: int) -> Outcome:
        """One answer of so many tokens. What goes wrong is in the outcome."""
        clock = _Clock()
        try:
            async with asyncio.timeout(self.wait_seconds):
                await self._ask(tokens, clock)
        except (OSError, TimeoutError) as error:
            clock.outcome.fault = f"{type(error).__name__} {error}"
        return clock.end(tokens)

    def close(self) -> None:  # noqa: B027 - what keeps nothing open has nothing to do
        """Hangs up."""

    @abstractmethod
    async def _ask(self, tokens: int, clock: _Clock) -> None:
        """Asks, and tells the clock of what comes."""


class _OverHttp(Seat):
    path = "/v1/chat/completions"

    async def open(self) -> None:
        self._connection = await HttpConnection(self.subject.port).open()

    def close(self) -> None:
        self._connection.close()

    def _body(self, tokens: int) -> dict[str, Any]:
        messages = [{"role": "user", "content": QUESTION}]
        return {"model": self.subject.model, "messages": messages, "max_tokens": tokens}

    async def _ask(self, tokens: int, clock: _Clock) -> None:
        request = request_bytes("POST", self.path, self.subject.key, self._body(tokens))
        answer = await self._connection.send(request, self._reader(clock), seconds=self.wait_seconds)
        clock.outcome.status = answer.status
        clock.came(answer.body.count(_TOKEN))
        if answer.status != 200:
            clock.outcome.fault = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
            clock.outcome.retry_after = answer.headers.get("retry-after")

    def _reader(self, clock: _Clock) -> Callable[[bytes], None] | None:
        return None


class _Chat(_OverHttp):
    """A whole chat completion."""


class _Events(_OverHttp):
    """An answer as server-sent events."""

    counted = b""
    """What an event must have in it for its tokens to count."""

    def _reader(self, clock: _Clock) -> Callable[[bytes], None]:
        left = b""

        def read(data: bytes) -> None:
            nonlocal left
            *events, left = (left + data).split(b"\n\n")
            clock.came(sum(event.count(_TOKEN) for event in events if self.counted in event))
            clock.outcome.fault = clock.outcome.fault or next((fault for fault in map(_fault, events) if fault), None)

        return read


class _StreamedChat(_Events):
    def _body(self, tokens: int) -> dict[str, Any]:
        return {**super()._body(tokens), "stream": True}


class _Responses(_Events):
    """A stored response."""

    path = "/v1/responses"
    counted = _DELTA
    conversation: str | None = None

    def _body(self, tokens: int) -> dict[str, Any]:
        body = {"model": self.subject.model, "input": QUESTION, "max_output_tokens": tokens, "stream": True}
        return body if self.conversation is None else {**body, "conversation": self.conversation}


class _ResponsesInConversation(_Responses):
    async def open(self) -> None:
        await super().open()
        self.conversation = await new_conversation(self.subject)


class _Socket(Seat):
    """A stored response over a WebSocket that stays open."""

    conversation: str | None = None

    async def open(self) -> None:
        connection = SocketConnection(self.subject.port, "/v1/responses", self.subject.key, lambda _: None)
        self._connection = await connection.open()

    def close(self) -> None:
        self._connection.close()

    async def _ask(self, tokens: int, clock: _Clock) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def read(message: bytes) -> None:
            if _DELTA in message[:64]:
                clock.came(message.count(_TOKEN))
            elif any(end in message[:64] for end in _ENDS) and not ended.done():
                ended.set_result(None)
            elif (fault := _fault(message)) and not ended.done():
                clock.outcome.fault = fault
                ended.set_result(None)

        self._connection.on_message = read
        body = {"type": "response.create", "model": self.subject.model, "input": QUESTION, "max_output_tokens": tokens}
        if self.conversation is not None:
            body["conversation"] = self.conversation
        self._connection.send(orjson.dumps(body))
        ends: set[asyncio.Future[Any]] = {ended, self._connection.closed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            clock.outcome.fault = f"closed with {self._connection.closed.result()}"


class SocketInConversation(_Socket):
    async def open(self) -> None:
        await super().open()
        self.conversation = await new_conversation(self.subject)


def _fault(event: bytes) -> str | None:
    return event[:300].decode(errors="replace") if any(fault in event[:64] for fault in _FAULTS) else None


async def new_conversation(subject: Subject) -> str:
    """The id of an empty conversation."""
    connection = await HttpConnection(subject.port).open()
    answer = await connection.send(request_bytes("POST", "/v1/conversations", subject.key, {}))
    connection.close()
    return str(orjson.loads(answer.body)["id"])


async def open_seats(subject: Subject, way: str, number: int) -> list[Seat]:
    """So many seats of one way, open."""
    seats = [WAYS[way](subject) for _ in range(number)]
    await asyncio.gather(*(seat.open() for seat in seats))
    return seats


WAYS: dict[str, type[Seat]] = {
    "chat": _Chat,
    "chat-stream": _StreamedChat,
    "sse": _Responses,
    "ws": _Socket,
    "sse-conversation": _ResponsesInConversation,
    "ws-conversation": SocketInConversation,
}
