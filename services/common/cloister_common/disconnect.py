"""The client has left: how it is noticed, on every transport.

Starlette does not cancel a handler whose client disconnected; it only offers the message. Work that was given up would
otherwise keep a model busy for nobody.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive
from starlette.websockets import WebSocketDisconnect

from cloister_common.errors import CallerGone

__all__ = ["SOCKET_GONE", "disconnected", "while_connected"]

R = TypeVar("R")

SOCKET_GONE = (WebSocketDisconnect, RuntimeError, OSError)
"""What sending on a WebSocket raises when its client has gone. It depends on who noticed: Starlette, which knows that
the socket is closed already (RuntimeError), or the transport below it."""


async def disconnected(receive: Receive) -> None:
    """Returns when the client of a request has gone. Its body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """The result of ``work``, unless the client goes first: then ``work`` is cancelled. The body must have been read.

    Raises:
        CallerGone: The client went.
    """
    task = asyncio.create_task(work, name="request-work")
    watch = asyncio.create_task(disconnected(request.receive), name="request-watch")
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CallerGone
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
