"""The frames of a WebSocket (RFC 6455, section 5): a server's written, a client's read within limits.

Sans-I/O: bytes in, bytes out. A server's frames are not masked, so they are the same for every reader: whoever sends
one text to five hundred makes its frame once.
"""

import struct
from collections.abc import Iterable, Iterator
from time import monotonic

from websockets.speedups import apply_mask

from cloister_common.settings import ConnectionLimits

__all__ = [
    "BINARY",
    "CLOSE",
    "INVALID_DATA",
    "PING",
    "PONG",
    "TEXT",
    "FrameError",
    "FrameReader",
    "close_payload",
    "frame",
    "read_close",
    "text_frames",
]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_DATA = frozenset({_CONTINUATION, TEXT, BINARY})
_CONTROL = frozenset({CLOSE, PING, PONG})

_FINAL = 0x80
_MASKED = 0x80
_LARGEST_CONTROL = 125

PROTOCOL_ERROR, INVALID_DATA, POLICY_VIOLATION, MESSAGE_TOO_BIG = 1002, 1007, 1008, 1009
_NO_CODE = 1005
_CODES_OF_OTHERS = frozenset({1004, 1005, 1006, 1015})
"""Codes below 1016 that never stand in a frame."""


class FrameError(Exception):
    """What a client sent ends its connection.

    Args:
        code: The close code.
        reason: A short sentence for the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message, or a control frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((_FINAL | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", _FINAL | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FINAL | opcode, 127, size) + payload


def text_frames(texts: Iterable[bytes]) -> bytes:
    """Messages of UTF-8, one frame each, joined."""
    return b"".join([frame(TEXT, text) for text in texts])


def close_payload(code: int, reason: str) -> bytes:
    """What a close frame says; of a long reason as much as there is room for."""
    words = reason.encode()[: _LARGEST_CONTROL - 2].decode(errors="ignore").encode()
    return code.to_bytes(2) + words


def read_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a client's close frame. Raises `FrameError` where it is none."""
    if not payload:
        return _NO_CODE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not 1000 <= code < 5000 or code in _CODES_OF_OTHERS or 1016 <= code < 3000:
        raise FrameError(PROTOCOL_ERROR, "This is not a close code.")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "The reason is not UTF-8.") from None


class FrameReader:
    """What a client sends, message by message, with its control frames between.

    Frames and bytes are counted where a frame has been read and before the next one is: a piece of 256 KB from the
    network may hold 40,000 frames of one byte, which must not all be read before anybody looks.

    Args:
        limits: Frames of a message and of a second, and bytes of a second.
        max_size: Bytes of a message.
        ahead: What comes before all that is fed.

    Attributes:
        max_size: As given; it may change between messages.
    """

    __slots__ = ("_bytes", "_frames", "_limits", "_opcode", "_parts", "_rest", "_second", "_size", "max_size")

    def __init__(self, limits: ConnectionLimits, *, max_size: int, ahead: bytes = b"") -> None:
        self._limits = limits
        self.max_size = max_size
        self._rest = bytearray(ahead) if ahead else None  # the beginning of a frame
        self._parts: list[bytes] | None = None  # of a message in fragments
        self._opcode = TEXT  # of that message
        self._size = 0  # and its bytes
        self._second = 0.0
        self._frames = 0
        self._bytes = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields what ``data`` completes: the opcode and payload of messages and control frames.

        Raises:
            FrameError: The connection has failed. There is no going on.
        """
        came: bytes | bytearray = data
        if self._rest is not None:
            self._rest += data
            came = self._rest
        at, end = 0, len(came)
        while end - at >= 2:
            first, second = came[at], came[at + 1]
            size, start = second & 0x7F, at + 2
            if size > _LARGEST_CONTROL:
                start += 2 if size == 126 else 8
                if end < start:
                    break
                size = int.from_bytes(came[at + 2 : start])
            self._check(first, second, size)
            start += 4
            if end - start < size:
                break
            payload = apply_mask(bytes(came[start : start + size]), bytes(came[start - 4 : start])) if size else b""
            at = start + size
            self._count(first & 0x0F, size)
            yield from self._take(first, payload)
        if at < end:
            if self._rest is None:
                self._rest = bytearray(data[at:])
            else:
                del self._rest[:at]
        else:
            self._rest = None

    def _check(self, first: int, second: int, size: int) -> None:
        """Judges a frame by its header, before its payload is waited for."""
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "Reserved bits must be 0: no extension was agreed on.")
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "A client's frames must be masked.")
        if opcode in _CONTROL:
            if size > _LARGEST_CONTROL or not first & _FINAL:
                raise FrameError(PROTOCOL_ERROR, "A control frame has at most 125 bytes, in one piece.")
        elif opcode not in _DATA:
            raise FrameError(PROTOCOL_ERROR, f"There is no opcode {opcode}.")
        elif (opcode == _CONTINUATION) != (self._parts is not None):
            raise FrameError(PROTOCOL_ERROR, "A message must end before the next one, and begin with its type.")
        elif self._size + size > self.max_size:
            raise FrameError(MESSAGE_TOO_BIG, f"A message may have {self.max_size} bytes.")

    def _count(self, opcode: int, size: int) -> None:
        limits, now = self._limits, monotonic()
        if now - self._second >= 1.0:
            self._second, self._frames, self._bytes = now, 0, 0
        self._frames += 1
        self._bytes += size
        if self._frames > limits.frames_per_second:
            raise FrameError(POLICY_VIOLATION, f"Over {limits.frames_per_second} frames a second. Send fewer.")
        if self._bytes > limits.frame_bytes_per_second:
            raise FrameError(POLICY_VIOLATION, f"Over {limits.frame_bytes_per_second} bytes a second. Send fewer.")
        if opcode == _CONTINUATION and self._parts is not None and len(self._parts) >= limits.frames_per_message:
            raise FrameError(MESSAGE_TOO_BIG, f"A message may have {limits.frames_per_message} fragments.")

    def _take(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        opcode, final = first & 0x0F, first & _FINAL
        if opcode in _CONTROL or (final and self._parts is None):
            yield opcode, payload
            return
        if self._parts is None:
            self._parts, self._opcode = [], opcode
        self._parts.append(payload)
        self._size += len(payload)
        if final:
            message = b"".join(self._parts)
            self._parts, self._size = None, 0
            yield self._opcode, message
