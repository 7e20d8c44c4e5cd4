"""Signs of life in an event stream that is silent for long: how one part of ours tells another that it works on it.

A pod reads a long prompt, or holds back a call of a tool until it is whole, and sends nothing meanwhile. Whoever waits
for it asks for a comment as often as its patience needs (`REQUEST`), and takes it out of the stream again (`PULSE`). A
part that was not asked sends none, so that others may read its streams as they are.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.types import Message, Send

__all__ = ["LONGEST_SILENCE", "PULSE", "REQUEST", "asked_pulse", "pulsing"]

REQUEST = "x-cloister-pulse"
"""The header that asks, with the seconds of silence after which there shall be a sign."""

PULSE = b": pulse\n\n"
"""The sign: an event of server-sent events without anything in it. JSON has no line breaks and ends with a bracket, so
no event of a model has these bytes within."""

LONGEST_SILENCE = 600.0
"""Seconds after which there are no more signs: what has stopped behind a process that runs must come to an end too."""

_LEAST, _MOST = 0.01, 60.0


def asked_pulse(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """The seconds of silence after which a sign of life is asked for, by the headers of a request."""
    name = REQUEST.encode()
    for key, value in headers:
        if key == name:
            try:
                seconds = float(value)
            except ValueError:
                return None
            return min(max(seconds, _LEAST), _MOST) if seconds == seconds else None  # NaN is none
    return None


@contextmanager
def pulsing(send: Send, seconds: float, *, longest: float = LONGEST_SILENCE) -> Iterator[Send]:
    """Gives the ``send`` of an application whose event stream has signs of life, between its messages.

    They begin with the answer, and only if it is an event stream. A message must hold whole events, as vLLM's do.

    Args:
        send: The server's.
        seconds: Silence after which there is a sign, again and again.
        longest: Silence after which there is none any more.
    """
    pulse = _Pulse(send, seconds, longest)
    try:
        yield pulse.send
    finally:
        pulse.end()


class _Pulse:
    def __init__(self, send: Send, seconds: float, longest: float) -> None:
        self._send = send
        self._seconds = seconds
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._last = 0.0  # when the application sent something
        self._task: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        async with self._turn:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.end()
            await self._send(message)
        self._last = self._loop.time()
        if message["type"] == "http.response.start" and _is_event_stream(message):
            self._task = self._loop.create_task(self._beat(), name="pulse")

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _beat(self) -> None:
        due = self._last + self._seconds
        while (now := self._loop.time()) < self._last + self._longest:
            if now < due:
                await asyncio.sleep(due - now)
                # What was sent meanwhile moves it: one timer for a silence, none for a token.
                due = max(due, self._last + self._seconds)
                continue
            async with self._turn:
                await self._send({"type": "http.response.body", "body": PULSE, "more_body": True})
            due = self._loop.time() + self._seconds


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
