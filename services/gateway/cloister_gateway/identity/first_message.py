"""A socket whose ticket comes in its first message: it is accepted before anybody knows whose it is.

Nothing behind the guard sees it before the ticket was taken, and then as a socket that is not accepted yet. What is
refused from then on, an HTTP answer to any other handshake, is told in an ``error`` event and a close code. A stranger
holds little: few may be here at once, for a short time, with a short message.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import orjson
from cloister_common.bodies import parse_json
from cloister_common.disconnect import SOCKET_GONE
from cloister_common.doors.frame_writer import FRAMES
from cloister_common.errors import (
    CallerGone,
    CloisterError,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from starlette.types import Message, Receive, Scope, Send

from cloister_gateway.identity.handshake import TICKET_FOLLOWS, answered
from cloister_gateway.wire.closing import close_socket

__all__ = ["FirstMessage", "Strangers"]

_SECONDS = 5.0
"""From the handshake to the ticket: a page has it by then, and sends it at once."""
_BYTES = 1024
"""A ticket in its message has a hundred."""
_MOST = 128
"""Sockets that may be without a ticket at once in one process."""

_CLOSE_CODES = {error.status: error.close_code for error in (Unauthenticated, Forbidden, TooManyRequests, Unavailable)}


class Strangers:
    """How many sockets wait for their tickets."""

    def __init__(self) -> None:
        self._waiting = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one more while the block runs.

        Raises:
            TooManyRequests: There are as many as may be.
        """
        if self._waiting >= _MOST:
            raise TooManyRequests(
                "Too many connections wait for their tickets. Try again, or send the ticket in a subprotocol.",
                retry_after=1,
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


class FirstMessage:
    """One such socket, as the application behind the guard speaks to it.

    Args:
        scope: Of its handshake.
        receive: Its own.
        send: Its own.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._connect: Message | None = None
        self._accepted = False
        self._status = 0
        self._body = b""

    async def ticket(self) -> str:
        """Accepts the socket and reads its ticket.

        Raises:
            CallerGone: The client left.
            InvalidRequest: Its first message is something else.
            Unauthenticated: None came in time.
        """
        self._connect = await self._receive()
        before = self._scope["extensions"][FRAMES].limit(_BYTES)
        await self._send({"type": "websocket.accept", "subprotocol": answered(self._scope)})
        self._accepted = True
        try:
            async with asyncio.timeout(_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise Unauthenticated(
                f"No ticket came within {_SECONDS:g} s. Send it as the first message.", code="invalid_ticket"
            ) from None
        if message["type"] == "websocket.disconnect":
            raise CallerGone
        ticket = _ticket(message)
        self._scope["extensions"][FRAMES].limit(before)
        return ticket

    async def receive(self) -> Message:
        """The next message, of those behind the ticket."""
        connect, self._connect = self._connect, None
        return connect or await self._receive()

    async def send(self, message: Message) -> None:
        """Sends what the application says, in the words of a socket that is accepted."""
        kind = message["type"]
        if not self._accepted:
            await self._send(message)
        elif kind == "websocket.accept":
            await self._send({"type": "websocket.send", "text": f'{{"type":"{TICKET_FOLLOWS}.accepted"}}'})
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
        elif kind == "websocket.http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._refuse()
        else:
            await self._send(message)

    async def _refuse(self) -> None:
        event = {"type": "error", "status": self._status, **orjson.loads(self._body)}
        with suppress(*SOCKET_GONE):
            await self._send({"type": "websocket.send", "text": orjson.dumps(event).decode()})
        await close_socket(self._send, _CLOSE_CODES.get(self._status, 1008), "The last message says why.")


def _ticket(message: Message) -> str:
    text = message.get("text")
    try:
        said = parse_json(text.encode() if text is not None else message.get("bytes") or b"")
    except CloisterError:
        said = None
    if isinstance(said, dict) and said.get("type") == TICKET_FOLLOWS and isinstance(said.get("ticket"), str):
        ticket: str = said["ticket"]
        return ticket
    raise InvalidRequest(
        f'The first message must be {{"type": "{TICKET_FOLLOWS}", "ticket": "clot_…"}}, as the subprotocol '
        f"{TICKET_FOLLOWS} says.",
        code="invalid_ticket",
    )
