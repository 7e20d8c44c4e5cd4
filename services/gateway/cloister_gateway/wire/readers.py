"""Readers over HTTP who stop reading are cut off as sockets are.

A stalled reader would keep a run's events in memory, a generation open in a pod, or a connection to the retriever.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from cloister_common.logs import get_logger
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

__all__ = ["ReaderTooSlowError", "TimedStream", "in_time"]

log = get_logger(__name__)


class ReaderTooSlowError(Exception):
    """The reader took longer for a message than it may. A response that returns then closes the connection."""


def in_time(send: Send, seconds: float) -> Send:
    """``send``, which raises `ReaderTooSlowError` if a message takes longer than ``seconds`` to go out."""

    async def timed(message: Message) -> None:
        try:
            async with asyncio.timeout(seconds):
                await send(message)
        except TimeoutError as error:
            log.info("slow_reader_cut_off")
            raise ReaderTooSlowError from error

    return timed


class TimedStream(StreamingResponse):
    """A streaming response that ends where its reader stops reading.

    Args:
        content: What it sends. Closed at the end, whatever the end is.
        send_seconds: The longest one message may take to go out.
        close: Called at the end too, even where ``content`` was never begun.
        status_code, headers, media_type: As `StreamingResponse`.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        *,
        send_seconds: float,
        close: Callable[[], Awaitable[None]] | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type)
        self._content = content
        self._close = close
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, in_time(send, self._send_seconds))
        except* ReaderTooSlowError:
            pass  # What returns unfinished is cut off.
        finally:
            await self._content.aclose()
            if self._close is not None:
                await self._close()
