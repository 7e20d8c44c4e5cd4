"""Clients that cost less than what they measure: HTTP and WebSocket as plain asyncio protocols.

The SDK, httpx and aiohttp take longer for a request than a fast gateway does, and would be what is measured. These
speak to servers of the loopback interface that are known to be well behaved, and to nothing else.
"""

import asyncio
import base64
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httptools
import orjson

__all__ = ["Answer", "ClosedError", "HttpConnection", "SocketConnection", "request_bytes"]

_SECONDS = 60.0

OnData = Callable[[bytes], None]


class ClosedError(ConnectionError):
    """The other side closed the connection in the middle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; the body is empty where it was read as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_bytes(method: str, path: str, key: str | None, body: Any = None) -> bytes:
    """A request, ready to be sent again and again."""
    raw = b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(raw)}"]
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    if raw:
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + raw


class HttpConnection(asyncio.Protocol):
    """One kept HTTP/1.1 connection, with one request at a time. Made by `open`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._on_data: OnData | None = None

    async def open(self) -> Self:
        """Connects it."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        return self

    async def send(self, request: bytes, on_data: OnData | None = None, *, seconds: float = _SECONDS) -> Answer:
        """Sends ``request``; gives its answer. ``on_data`` takes the pieces of a successful body as they come.

        Raises:
            ClosedError: The server hung up.
            TimeoutError: It was not answered within ``seconds``; the connection is closed.
        """
        if self._transport is None or self._transport.is_closing():
            await self.open()
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._on_data = on_data
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            async with asyncio.timeout(seconds):
                return await self._answer
        except TimeoutError:
            self.close()
            raise

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ClosedError("closed before the end of an answer"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        if self._on_data is not None and self._parser.get_status_code() == 200:
            self._on_data(data)
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))


class SocketConnection(asyncio.Protocol):
    """One WebSocket. Made by `open`; ``on_message`` takes each message, and may be replaced at any time."""

    def __init__(self, port: int, path: str, key: str, on_message: OnData) -> None:
        self.on_message = on_message
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._port = port
        self._request = (
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {base64.b64encode(secrets.token_bytes(16)).decode()}\r\n"
            f"authorization: Bearer {key}\r\n\r\n"
        ).encode()
        self._buffer = bytearray()
        self._parts: list[bytes] = []

    async def open(self, *, seconds: float = _SECONDS) -> Self:
        """Connects it.

        Raises:
            ClosedError: It was refused.
        """
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        async with asyncio.timeout(seconds):
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)
            self._transport.write(self._request)
            await self._opened
        return self

    def send(self, message: bytes) -> None:
        """Sends a text. Masked with zeros, which is a mask too: nobody between here and there is to be protected."""
        self._frame(0x81, message)

    def close(self) -> None:
        """Hangs up."""
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(ClosedError("refused"))
        if not self.closed.done():
            self.closed.set_result(1006)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._opened.done():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end])
            del buffer[: end + 4]
            if b" 101 " not in head[:20]:
                self._opened.set_exception(ClosedError(head.partition(b"\r\n")[0].decode()))
                return
            self._opened.set_result(None)
        place = 0
        while len(buffer) - place >= 2:
            size, start = buffer[place + 1], place + 2
            if size == 126:
                if len(buffer) < start + 2:
                    break
                size, start = struct.unpack_from("!H", buffer, start)[0], start + 2
            elif size == 127:
                if len(buffer) < start + 8:
                    break
                size, start = struct.unpack_from("!Q", buffer, start)[0], start + 8
            if len(buffer) < start + size:
                break
            self._take(buffer[place], bytes(buffer[start : start + size]))
            place = start + size
        del buffer[:place]

    def _take(self, head: int, payload: bytes) -> None:
        kind = head & 0x0F
        if kind == 0x9:
            self._frame(0x8A, payload)
        elif kind == 0x8:
            self.closed.set_result(struct.unpack_from("!H", payload)[0] if payload else 1005)
            self._transport.close()
        elif kind in {0x0, 0x1}:
            if head & 0x80 and not self._parts:
                self.on_message(payload)
                return
            self._parts.append(payload)
            if head & 0x80:
                whole, self._parts = b"".join(self._parts), []
                self.on_message(whole)

    def _frame(self, head: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            start = struct.pack("!BB", head, 0x80 | size)
        elif size < 65536:
            start = struct.pack("!BBH", head, 0x80 | 126, size)
        else:
            start = struct.pack("!BBQ", head, 0x80 | 127, size)
        self._transport.write(start + b"\0\0\0\0" + payload)
