"""uvicorn's WebSocket protocol with limits: frames of a message and of a second, and their bytes.

They are counted where a frame has been parsed and before the next one is: a piece of 256 KB from the network may hold
40,000 frames of one byte, which must not all be parsed before anybody looks.
"""

import logging
from time import monotonic
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.server import ServerProtocol

from cloister_common.doors.door import REFUSED, Door
from cloister_common.doors.http import answer
from cloister_common.errors import HeadTooLarge
from cloister_common.settings import ConnectionLimits

__all__ = ["BoundedWebSocket"]

_LINGER_SECONDS = 2.0
"""How long a client that was closed is listened to, so that it reads the close frame before the connection ends."""


class _CountedFrames(ServerProtocol):
    """The frames of one WebSocket."""

    def __init__(self, limits: ConnectionLimits, *, max_size: int) -> None:
        super().__init__(max_size=max_size, logger=logging.getLogger("uvicorn.error"))
        self._limits = limits
        self._of_message = 0
        self._second = 0.0
        self._frames = 0
        self._bytes = 0

    def recv_frame(self, frame: Frame) -> None:
        """Takes a frame, or fails the connection."""
        now = monotonic()
        if now - self._second >= 1.0:
            self._second, self._frames, self._bytes = now, 0, 0
        self._frames += 1
        self._bytes += len(frame.data)
        if frame.opcode is Opcode.CONT:
            self._of_message += 1
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._of_message = 1
        limits = self._limits
        if self._frames > limits.frames_per_second:
            self._end(CloseCode.POLICY_VIOLATION, f"Over {limits.frames_per_second} frames a second. Send fewer.")
        if self._bytes > limits.frame_bytes_per_second:
            self._end(CloseCode.POLICY_VIOLATION, f"Over {limits.frame_bytes_per_second} bytes a second. Send fewer.")
        if self._of_message > limits.frames_per_message:
            self._end(CloseCode.MESSAGE_TOO_BIG, f"A message may have {limits.frames_per_message} fragments.")
        super().recv_frame(frame)

    def _end(self, code: CloseCode, reason: str) -> None:
        self.fail(code, reason)
        raise ProtocolError(reason)  # ends the parser; the connection has failed already, with our code


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket of a `Door`."""

    def __init__(self, *arguments: Any, door: Door, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.conn = _CountedFrames(door.limits, max_size=self.config.ws_max_size)
        self._failed = False

    def data_received(self, data: bytes) -> None:
        """Parses, unless the connection has failed."""
        if self._failed:
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The library's own limits (8 KiB for a line); uvicorn would say nothing and wait for ever.
            error = HeadTooLarge("The URL and each header of a WebSocket's request may have 8192 bytes. Send less.")
            self._failed = True
            REFUSED.labels("head").inc()
            self.transport.write(answer(error))
            self.transport.close()

    def handle_ping(self) -> None:
        """Answers a ping, but stores no answers for a client that does not read them."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_parser_exception(self) -> None:
        """Tells why, and closes once the client had the time to read it."""
        self._failed = True
        REFUSED.labels("frames").inc()
        closed = self.conn.close_sent
        if closed is None:
            self.transport.abort()  # Frames before the handshake's end: there is no way to say anything.
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
