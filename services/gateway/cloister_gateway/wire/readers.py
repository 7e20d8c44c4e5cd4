"""Readers over HTTP: what is sent to them ends when they leave or stop reading, and is never silent for long.

A stalled reader would keep a run's events in memory, a generation open in a pod, or a connection to the retriever.
Proxies hang up on a stream that is silent for a minute, some after less: so, while a long prompt is read or a run
waits, a comment goes out (``: keep-alive``), which every reader of server-sent events passes over.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from cloister_common.disconnect import WhileConnected
from cloister_common.logs import get_logger
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

__all__ = ["STREAM_HEADERS", "Reader", "TimedStream"]

log = get_logger(__name__)

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Asks nginx and what behaves like it not to collect tokens.
    (b"x-accel-buffering", b"no"),
)

_COMMENT = b": keep-alive\n\n"
_END = b"\n\ndata: [DONE]\n\n"


class Reader(WhileConnected):
    """Whoever reads an answer that takes its time: ``async with`` around making and sending it.

    The block ends, without an error, when the reader leaves or takes too long for a message; a response that returns
    then closes the connection. An answer costs one timer, as in `cloister_gateway.models.watchdog`, and a message a
    reading of the clock.

    Where the first comment comes before the answer has begun, it begins there, with 200: an error that is found later
    is told as an event, in the same words.

    Args:
        receive: The request's.
        send: Where messages go.
        send_seconds: The longest one message may take to go out.
        keep_alive_seconds: The longest silence, of a stream of server-sent events.
        since: When the silence began, by the loop's clock, where the request has waited before.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        *,
        send_seconds: float,
        keep_alive_seconds: float | None = None,
        since: float | None = None,
    ) -> None:
        super().__init__(receive)
        self._send = send
        self._send_seconds = send_seconds
        self._silent_seconds = keep_alive_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time() if since is None else since
        self._sending = False  # since `_last`
        self._held = self._left = False
        self._begun = False
        self._comment: asyncio.Task[None] | None = None
        self._begun_by_comment = False
        self._error: bytes | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._wait(self._last)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._comment is not None:
            self._comment.cancel()
        return await super().__aexit__(kind, error, traceback)

    @property
    def begun(self) -> bool:
        """Whether the answer has begun, or is about to by a comment."""
        return self._begun or self._comment is not None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """A block that is done whole: that the reader left meanwhile is found at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            if self._left:
                self.interrupt()
                await asyncio.sleep(0)  # where it is found

    def interrupt(self) -> None:
        """Ends the block, or the one that is held within it first."""
        self._left = True
        if not self._held:
            super().interrupt()

    async def send(self, message: Message) -> None:
        """Sends a message of the answer."""
        if self._comment is not None:
            await self._comment
        self._last = self._loop.time()
        self._sending = self._begun = True
        if self._begun_by_comment:
            await self._send_after_comment(message)
        else:
            await self._send(message)
        self._sending = False

    async def _send_after_comment(self, message: Message) -> None:
        """Sends a message of an answer that has begun with 200 already: an error becomes the last event."""
        if message["type"] == "http.response.start":
            self._error = b"" if message["status"] != 200 else None
        elif self._error is None:
            await self._send(message)
        else:
            self._error += message.get("body", b"")
            if not message.get("more_body"):
                await self._send({"type": "http.response.body", "body": b"data: " + self._error + _END})

    def _wait(self, now: float) -> None:
        """Sets the timer to what is due next."""
        due = (self._last if self._sending else now) + self._send_seconds
        if self._silent_seconds is not None:
            silent = self._last + self._silent_seconds
            due = min(due, silent if silent > now else now + self._silent_seconds)
        self._timer = self._loop.call_at(due, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if self._sending:
            if self._last + self._send_seconds <= now:
                log.info("slow_reader_cut_off")
                self.interrupt()
                return
        elif self._comment is None and self._silent_seconds is not None and self._last + self._silent_seconds <= now:
            # Does not outlive the answer: `send` waits for it, and the end of the block ends it.
            self._comment = self._loop.create_task(self._send_comment(), name="keep-alive")
        self._wait(now)

    async def _send_comment(self) -> None:
        self._last = self._loop.time()
        self._sending = True
        # A reader who is gone is found by who listens.
        with suppress(OSError):
            if not self._begun:
                self._begun = self._begun_by_comment = True
                await self._send({"type": "http.response.start", "status": 200, "headers": list(STREAM_HEADERS)})
            await self._send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
        self._sending = False
        self._comment = None


class TimedStream(StreamingResponse):
    """A streaming response that ends with its `Reader`.

    Args:
        content: What it sends. Closed at the end, whatever the end is.
        send_seconds, keep_alive_seconds: As `Reader`.
        close: Called at the end too, even where ``content`` was never begun.
        status_code, headers, media_type: As `StreamingResponse`.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        *,
        send_seconds: float,
        keep_alive_seconds: float | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type)
        self._content = content
        self._close = close
        self._send_seconds = send_seconds
        self._keep_alive_seconds = keep_alive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = Reader(receive, send, send_seconds=self._send_seconds, keep_alive_seconds=self._keep_alive_seconds)
        try:
            async with reader:
                await self.stream_response(reader.send)
        finally:
            await self._content.aclose()
            if self._close is not None:
                await self._close()
