"""The WebSockets of a `Door`: uvicorn's place for them in its servers, with little of its own for each.

uvicorn's protocol and the library's below it cost 9 KB for a socket that only waits, and half a millisecond to open
one, whose request is parsed twice. Here a socket is one object with slots: the request comes parsed from `BoundedHttp`,
pings have one timer for all (`pings`), and whoever has a text for many sockets writes the frame it made once
(`FrameWriter`): 1.4 µs beside the system call, which may carry as many frames as there are.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, cast

from starlette.types import Message, Scope
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from cloister_common.doors.door import REFUSED
from cloister_common.doors.frame_writer import FRAMES
from cloister_common.doors.frames import (
    BINARY,
    CLOSE,
    INVALID_DATA,
    PING,
    PONG,
    TEXT,
    FrameError,
    FrameReader,
    close_payload,
    frame,
    read_close,
)
from cloister_common.doors.handshake import accepted, socket_scope
from cloister_common.doors.pings import Pings
from cloister_common.logs import get_logger
from cloister_common.settings import ConnectionLimits

__all__ = ["BoundedWebSocket"]

log = get_logger(__name__)

_LINGER_SECONDS = 2.0
"""How long a client that was closed for its frames is listened to, so that it reads the close frame before the end."""
_CLOSE_SECONDS = 10.0
"""How long the client's own close frame is waited for."""

_MESSAGES = frozenset({TEXT, BINARY})
_NORMAL, _ABNORMAL, _INTERNAL_ERROR, _RESTART = 1000, 1006, 1011, 1012


class _State(IntEnum):
    OPENING = 0  # until the application has accepted or refused
    OPEN = 1
    CLOSING = 2  # our close frame is out; the client's is waited for
    GONE = 3  # nothing more is read or written


class BoundedWebSocket(asyncio.Protocol):
    """One WebSocket.

    Args:
        config: Of the server it belongs to.
        server_state: Its open connections and running applications.
        request: The scope of the HTTP request that asks for it.
        url: That request's, as it was sent.
        accept: What its key is answered with.
        limits: Of its frames.
        pings: Those of all sockets of its port.
        ahead: What the client has sent behind the request already.
    """

    __slots__ = (
        "_accept",
        "_app",
        "_full",
        "_messages",
        "_paused",
        "_pinged_at",
        "_pinged_with",
        "_pings",
        "_place",
        "_reader",
        "_refusal",
        "_room",
        "_scope",
        "_server",
        "_state",
        "_timer",
        "_transport",
        "_waits",
        "on_room",
    )

    def __init__(
        self,
        *,
        config: Config,
        server_state: ServerState,
        request: dict[str, Any],
        url: bytes,
        accept: bytes,
        limits: ConnectionLimits,
        pings: Pings,
        ahead: bytes = b"",
    ) -> None:
        self._app = config.loaded_app
        self._server = server_state
        self._scope: Scope | None = socket_scope(request, url, config.root_path)
        self._scope["extensions"][FRAMES] = self
        self._accept = accept
        self._pings = pings
        self._state = _State.OPENING
        self._reader = FrameReader(limits, max_size=config.ws_max_size, ahead=ahead)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._messages: deque[Message] | None = None  # for the application, where it does not wait for the next
        self._waits: asyncio.Future[Message] | None = None  # the application, for a message
        self._room: asyncio.Event | None = None  # it, for room
        self._full = False
        self._paused = True
        self._place: set[Any] | None = None
        self._pinged_with: bytes | None = None  # a ping that was not answered yet
        self._pinged_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, Iterable[tuple[bytes, bytes]], bytes] | None = None  # as far as it is known
        self.on_room: Callable[[], None] | None = None

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the application. What the client sends before it is accepted waits in the kernel."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()
        self._server.connections.add(cast("Any", self))
        self._tell({"type": "websocket.connect"})
        task = asyncio.get_running_loop().create_task(self._serve(), name="websocket")
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the application, wherever it waits."""
        self._server.connections.discard(cast("Any", self))
        self._leave(_ABNORMAL, "")

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._full = True

    def resume_writing(self) -> None:
        """It has read."""
        self._full = False
        if self._room is not None:
            self._room.set()
            self._room = None
        if self.on_room is not None:
            self.on_room()

    def shutdown(self) -> None:
        """The server ends."""
        if self._state is _State.OPENING:
            self._transport.write(STATUS_LINE[503] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self._end(_RESTART, "", say=frame(CLOSE, close_payload(_RESTART, "")))

    # What the client sends

    def data_received(self, data: bytes) -> None:
        """Reads frames, unless the connection has failed."""
        if self._state is _State.GONE:
            return
        try:
            for opcode, payload in self._reader.feed(data):
                if opcode in _MESSAGES:
                    self._take(opcode, payload)
                elif opcode == PING:
                    self._pong(payload)
                elif opcode == PONG:
                    if payload == self._pinged_with:
                        self._pinged_with = None
                else:
                    self._closed(payload)
                    return
        except FrameError as error:
            REFUSED.labels("frames").inc()
            self._fail(error.code, error.reason)

    def _take(self, opcode: int, payload: bytes) -> None:
        if self._state is not _State.OPEN:
            return  # The application has closed: it is read on only to find the client's close frame.
        try:
            said = {"bytes": payload} if opcode == BINARY else {"text": payload.decode()}
        except UnicodeDecodeError:
            raise FrameError(INVALID_DATA, "The text is not UTF-8.") from None
        self._tell({"type": "websocket.receive", **said})

    def _pong(self, payload: bytes) -> None:
        """Answers a ping, but stores no answers for a client that does not read them."""
        if not self._full:
            self._transport.write(frame(PONG, payload))

    def _closed(self, payload: bytes) -> None:
        self._end(*read_close(payload), say=frame(CLOSE, payload))

    def _tell(self, message: Message) -> None:
        """Hands a message to the application. While one waits for it, no more are read."""
        waits, self._waits = self._waits, None
        if waits is not None and not waits.done():  # Else it was cancelled just now, and does not know yet.
            waits.set_result(message)
            return
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        if not self._paused and self._state is _State.OPEN:
            self._paused = True
            self._transport.pause_reading()

    def _listen(self) -> None:
        if self._paused:
            self._paused = False
            self._pinged_at = asyncio.get_running_loop().time()  # Its answer may wait behind what was not read.
            self._transport.resume_reading()

    # Its ends

    def _fail(self, code: int, reason: str) -> None:
        """Tells the client why, and closes once it had the time to read it."""
        if self._state is _State.OPEN:
            self._transport.write(frame(CLOSE, close_payload(code, reason)))
        self._leave(code, reason)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._listen()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.abort)

    def _end(self, code: int, reason: str, *, say: bytes = b"") -> None:
        """Closes once all is sent, ``say`` to an open socket too. Who reads no more keeps no place for it."""
        if say and self._state is _State.OPEN:
            self._transport.write(say)
        self._leave(code, reason)
        self._transport.close()
        self._timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._transport.abort)

    def _leave(self, code: int, reason: str) -> None:
        """Nothing more is read or written. Whatever waits for this client hears of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._state is _State.GONE:
            return
        self._state = _State.GONE
        self._leave_pings()
        if self._room is not None:
            self._room.set()
            self._room = None
        on_room, self.on_room = self.on_room, None
        if on_room is not None:
            on_room()
        self._tell({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _leave_pings(self) -> None:
        if self._place is not None:
            self._place.discard(self)
            self._place = None

    def ping(self, payload: bytes, now: float) -> None:
        """Asks whether the client is still there, or finds that it is not."""
        if self._pinged_with is None:
            self._pinged_with, self._pinged_at = payload, now
            self._transport.write(frame(PING, payload))
        elif not self._paused and now - self._pinged_at >= self._pings.patience:
            self._fail(_INTERNAL_ERROR, "keepalive ping timeout")

    # The application

    async def _serve(self) -> None:
        """Runs the application. After it nothing of the request is kept."""
        scope, self._scope = self._scope, None
        code = _NORMAL
        try:
            await self._app(cast("Any", scope), self.receive, cast("Any", self.send))
        except ClientDisconnected:
            pass
        except Exception as error:
            log.error("socket_failed", exc_info=error)
            code = _INTERNAL_ERROR
        finally:
            if self._state is _State.OPENING:
                self._refuse(500, (), b"")
            elif self._state is _State.OPEN and self._full:
                self._transport.abort()
            elif self._state is _State.OPEN:
                self._close(code, "")

    async def receive(self) -> Message:
        """The next message."""
        if self._messages is None:
            self._waits = asyncio.get_running_loop().create_future()
            return await self._waits
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
            if self._state is _State.OPEN:
                self._listen()
        return message

    async def send(self, message: Message) -> None:
        """Sends what the application says; waits while the client does not read.

        Raises:
            ClientDisconnected: It has gone.
        """
        while self._full and self._state is not _State.GONE:
            self._room = self._room or asyncio.Event()
            await self._room.wait()
        if self._state is _State.GONE:
            raise ClientDisconnected
        kind = message["type"]
        if self._state is _State.OPENING:
            self._decide(kind, message)
        elif self._state is not _State.OPEN or kind not in {"websocket.send", "websocket.close"}:
            raise RuntimeError(f"'{kind}' is not sent on a socket that is {self._state.name.lower()}.")
        elif kind == "websocket.close":
            self._close(message.get("code", _NORMAL), message.get("reason") or "")
        elif message.get("bytes") is not None:
            self._transport.write(frame(BINARY, message["bytes"]))
        else:
            self._transport.write(frame(TEXT, message["text"].encode()))

    @property
    def gone(self) -> bool:
        """As `FrameWriter` says."""
        return self._state > _State.OPEN

    def write(self, frames: bytes) -> bool:
        """As `FrameWriter` says."""
        if self._state is not _State.OPEN:
            return False
        self._transport.write(frames)
        return not self._full

    def limit(self, most: int) -> int:
        """Bounds the bytes of a message from now on; gives what the bound was."""
        before, self._reader.max_size = self._reader.max_size, most
        return before

    def _decide(self, kind: str, message: Message) -> None:
        """The application accepts, or refuses with an answer of HTTP."""
        if kind == "websocket.accept":
            named = [*self._server.default_headers, *message.get("headers", ())]
            self._transport.write(accepted(self._accept, message.get("subprotocol"), named))
            self._state = _State.OPEN
            self._place = self._pings.join(self)
            if self._messages is None:
                self._listen()
            self.data_received(b"")  # what came with the request
        elif kind == "websocket.close":
            self._refuse(403, (), b"")
        elif kind == "websocket.http.response.start" and self._refusal is None:
            self._refusal = (message["status"], message.get("headers", ()), b"")
        elif kind == "websocket.http.response.body" and self._refusal is not None:
            status, headers, body = self._refusal
            body += message.get("body", b"")
            self._refusal = (status, headers, body)
            if not message.get("more_body"):
                self._refuse(status, headers, body)
        else:
            raise RuntimeError(f"'{kind}' neither accepts nor refuses a socket.")

    def _refuse(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        own = {b"content-length": b"%d" % len(body), b"connection": b"close"}
        lines = (b"%b: %b\r\n" % header for header in ({**dict(headers), **own}).items())
        self._transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self._end(_ABNORMAL, "")

    def _close(self, code: int, reason: str) -> None:
        self._transport.write(frame(CLOSE, close_payload(code, reason)))
        self._state = _State.CLOSING
        self._leave_pings()
        self._tell({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._listen()
        self._timer = asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self._transport.abort)
