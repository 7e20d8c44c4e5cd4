"""The client has left: how it is noticed, on every transport.

Starlette does not cancel a handler whose client disconnected; it only offers the message. Work that was given up would
otherwise keep a model busy for nobody.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.requests import Request
from starlette.types import Receive
from starlette.websockets import WebSocketDisconnect

from cloister_common.errors import CallerGone

__all__ = ["SOCKET_GONE", "WhileConnected", "disconnected", "while_connected"]

R = TypeVar("R")

SOCKET_GONE = (WebSocketDisconnect, RuntimeError, OSError)
"""What sending on a WebSocket raises when its client has gone. It depends on who noticed: Starlette, which knows that
the socket is closed already (RuntimeError), or the transport below it."""


async def disconnected(receive: Receive) -> None:
    """Returns when the client of a request has gone. Its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class WhileConnected:
    """``async with`` around work for the client of a request: ends with it, without an error, when the client goes.

    The work stays in the task of the request and is cancelled once, so that ``finally`` may wait. One task listens: a
    task group of anyio's costs a request ten times as much.

    Args:
        receive: The request's, whose body must have been read.

    Attributes:
        interrupted: Whether the block was ended.
    """

    def __init__(self, receive: Receive) -> None:
        self.interrupted = False
        self._receive = receive
        self._over = False

    def interrupt(self) -> None:
        """Ends the block."""
        if not (self._over or self.interrupted):
            self.interrupted = True
            self._task.cancel()

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = asyncio.create_task(disconnected(self._receive), name="request-watch")
        self._watch.add_done_callback(self._watched)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._over = True
        self._watch.cancel()
        # Where somebody else cancels the task too, that goes on.
        return (
            self.interrupted
            and self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        )

    def _watched(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            # A client that sends what it may not is as good as gone.
            watch.exception()
            self.interrupt()


async def while_connected(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """The result of ``work``, unless the client goes first: then ``work`` is cancelled. The body must have been read.

    Raises:
        CallerGone: The client went.
    """
    async with WhileConnected(request.receive):
        return await work
    raise CallerGone
