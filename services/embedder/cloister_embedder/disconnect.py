"""Work that stops when its caller is gone.

Starlette does not cancel a handler whose client disconnected; it only offers the message. An upload that was given up
would otherwise keep the model busy for nobody.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from cloister_common.errors import CloisterError
from starlette.requests import Request

__all__ = ["CallerGone", "while_connected"]

R = TypeVar("R")


class CallerGone(CloisterError):
    """The client closed the connection: nobody reads the answer, which carries nginx's status for the log."""

    status = 499
    code = "client_closed_request"


async def while_connected(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """The result of ``work``, unless the client goes first: then ``work`` is cancelled. The body must have been read.

    Raises:
        CallerGone: The client went.
    """
    task = asyncio.create_task(work, name="request-work")
    watch = asyncio.create_task(_disconnected(request), name="request-watch")
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise CallerGone("The client closed the connection.")
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
