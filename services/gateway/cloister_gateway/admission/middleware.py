"""Admission over HTTP: inside the guard, since places are a tenant's, and before anything of the body is parsed."""

import asyncio
from collections import deque

import orjson
from cloister_common.access import Direct, services_of
from cloister_common.errors import CallerGone
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_gateway.admission.place import Overloaded, Place
from cloister_gateway.admission.service import Admission

__all__ = ["GENERATIONS", "WAITED_SINCE", "AdmissionMiddleware", "place_of"]

GENERATIONS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/responses",
        "/v1/responses/compact",
    }
)
"""What a ``POST`` to makes a model work."""

WAITED_SINCE = "waited_since"
"""Where the state of a request says when it began to wait for its place, if it did, by the loop's clock: its caller has
heard nothing since."""


class AdmissionMiddleware:
    """Gives each request for a generation a place, and takes it back when the request ends.

    Args:
        app: What needs places.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in GENERATIONS:
            await self.app(scope, receive, send)
            return
        admission = services_of(scope["app"]).get(Admission)
        try:
            place = admission.ask(scope["state"]["principal"].tenant)
        except Overloaded as refusal:
            await _refuse(refusal, send)
            return
        try:
            if place.waits:
                scope["state"][WAITED_SINCE] = asyncio.get_running_loop().time()
                receive = await _wait_while_connected(place, receive)
            await admission.begin()
            scope["state"]["place"] = place
            await self.app(scope, receive, send)
        finally:
            place.give_back()


_REFUSAL = orjson.dumps(Overloaded(0).body())
_REFUSAL_HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(_REFUSAL)))


async def _refuse(refusal: Overloaded, send: Send) -> None:
    """Answers from what is there already: thousands may come together, and each waits for those before it."""
    headers = [*_REFUSAL_HEADERS, *((name.encode(), value.encode()) for name, value in refusal.headers().items())]
    await send({"type": "http.response.start", "status": Overloaded.status, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})


def _place(connection: HTTPConnection) -> Place:
    place: Place = connection.scope["state"]["place"]
    return place


place_of = Direct(_place)
"""A dependency: the place of this request, for a route that hands it over."""


async def _wait_while_connected(place: Place, receive: Receive) -> Receive:
    """Waits for ``place``; what had to be read of the request to notice that its caller leaves is read again.

    That is one piece, at most what the server buffers (64 KiB): nearly every request is whole then. One that is not
    could not be watched without taking in all of it; its caller's end is noticed when the rest is read.

    Raises:
        CallerGone: The caller has left.
    """
    read: deque[Message] = deque()
    granted = asyncio.ensure_future(place.wait())
    piece = asyncio.ensure_future(receive())
    try:
        while not granted.done():
            await asyncio.wait({granted, piece}, return_when=asyncio.FIRST_COMPLETED)
            if piece.done():
                message = piece.result()
                if message["type"] == "http.disconnect":
                    raise CallerGone
                read.append(message)
                if message.get("more_body"):
                    await granted
                else:
                    piece = asyncio.ensure_future(receive())
        granted.result()
    finally:
        for task in (granted, piece):
            task.cancel()
        await asyncio.gather(granted, piece, return_exceptions=True)

    async def again() -> Message:
        return read.popleft() if read else await receive()

    return again
