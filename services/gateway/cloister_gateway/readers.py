"""Readers over HTTP who stop reading, or lose their credential, are cut off as sockets are.

A stalled reader would keep a run's events in memory, a generation open in a pod, or a connection to the retriever.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import anyio
from cloister_common.errors import Unauthenticated
from cloister_common.logs import get_logger
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.types import Message, Receive, Scope, Send

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.principal import Principal

__all__ = ["ReaderTooSlowError", "TimedStream", "credential_ended", "in_time", "while_valid"]

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


@contextmanager
def while_valid(authenticator: Authenticator, principal: Principal) -> Iterator[anyio.CancelScope]:
    """Cancels what the block does as soon as the credential is revoked or has expired, and goes on after it.

    The scope that it gives says whether that happened (``cancelled_caught``).
    """
    with anyio.CancelScope() as scope:
        if principal.expires_at is not None:
            scope.deadline = anyio.current_time() + principal.expires_at - time.time()
        unwatch = authenticator.watch(principal, scope.cancel)
        try:
            yield scope
        finally:
            unwatch()


def credential_ended() -> Unauthenticated:
    """What to say to whoever is still to be told anything when `while_valid` has cancelled its block."""
    return Unauthenticated("The API key was revoked or has expired while it was being served.")


class TimedStream(StreamingResponse):
    """A streaming response that ends where its reader stops reading.

    Args:
        content: What it sends. Closed at the end, whatever the end is.
        send_seconds: The longest one message may take to go out.
        within: Cancels it when it must end; see `while_valid`.
        status_code, headers, media_type, background: As `StreamingResponse`.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes, None],
        *,
        send_seconds: float,
        within: AbstractContextManager[object] | None = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type, background)
        self._content = content
        self._within = within or nullcontext()
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._within:
                await super().__call__(scope, receive, in_time(send, self._send_seconds))
        except* ReaderTooSlowError:
            if self.background is not None:
                await self.background()
        finally:
            await self._content.aclose()
