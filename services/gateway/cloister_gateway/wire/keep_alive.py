"""Event streams that are never silent for long: proxies hang up on those that are, after a minute or less.

While a long prompt is read, or a run waits, a comment goes out (``: keep-alive``), which every reader of server-sent
events passes over. A stream costs one timer, as in `cloister_gateway.models.watchdog`, and a token a clock reading.
"""

import asyncio
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cloister_gateway.wire.readers import ReaderTooSlowError, in_time

__all__ = ["STREAM_HEADERS", "KeptAlive"]

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Asks nginx and what behaves like it not to collect tokens.
    (b"x-accel-buffering", b"no"),
)

_COMMENT = b": keep-alive\n\n"
_END = b"\n\ndata: [DONE]\n\n"


class KeptAlive(Response):
    """A streaming response that says something at least every few seconds.

    Where the first comment comes before the response has begun, it begins there, with 200: an error that is found
    later is told as an event, in the same words.

    Args:
        response: The stream of whole server-sent events.
        seconds: The longest silence.
        send_seconds: The longest one comment may take to go out.
    """

    def __init__(self, response: Response, *, seconds: float, send_seconds: float) -> None:
        super().__init__()
        self._response = response
        self._seconds = seconds
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = _Stream(send, self._seconds, self._send_seconds)
        try:
            await self._response(scope, receive, stream.send)
        finally:
            stream.stop()


class _Stream:
    """What went out of one response, and when."""

    def __init__(self, send: Send, seconds: float, send_seconds: float) -> None:
        self._send = send
        self._comment_send = in_time(send, send_seconds)
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_at(self._last + seconds, self._check)
        self._begun = False
        self._busy = False
        self._comment: asyncio.Task[None] | None = None
        self._error: bytes | None = None

    async def send(self, message: Message) -> None:
        """Sends a message of the response itself."""
        self._last = self._loop.time()
        if self._comment is not None:
            await self._comment
        self._busy = True
        try:
            if self._begun and message["type"] == "http.response.start":
                self._error = b"" if message["status"] != 200 else None
            elif self._error is not None:
                await self._send_error(message)
            else:
                self._begun = True
                await self._send(message)
        finally:
            self._busy = False

    def stop(self) -> None:
        """Ends the comments."""
        self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()

    async def _send_error(self, message: Message) -> None:
        """Tells an error, which was meant to be the whole answer, as the last event."""
        assert self._error is not None
        self._error += message.get("body", b"")
        if not message.get("more_body"):
            await self._send({"type": "http.response.body", "body": b"data: " + self._error + _END})

    def _check(self) -> None:
        now = self._loop.time()
        due = self._last + self._seconds
        if due <= now:
            due = now + self._seconds
            if self._comment is None and not self._busy:
                # Does not outlive the response: `send` waits for it, and `stop` ends it.
                self._comment = self._loop.create_task(self._send_comment(), name="keep-alive")
        self._timer = self._loop.call_at(due, self._check)

    async def _send_comment(self) -> None:
        # A reader who is gone, or does not read, is found by the response itself.
        with suppress(ReaderTooSlowError, OSError):
            if not self._begun:
                self._begun = True
                start = {"type": "http.response.start", "status": 200, "headers": list(STREAM_HEADERS)}
                await self._comment_send(start)
            await self._comment_send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
        self._comment = None
