"""Bodies that were compressed, as they were before: in bounded memory, and under the limit of plain ones.

A few bytes can stand for a gigabyte, so nothing is decompressed that nobody has asked for: each piece is made when the
application reads it, of at most `_PIECE_BYTES`, and the event loop has its turn between two. What counts against the
limit is what comes out, of each coding where there are two.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from backports import zstd
from starlette.types import Message, Receive

from cloister_common.errors import InvalidRequest, PayloadTooLarge

__all__ = ["CODINGS", "MOST_CODINGS", "decoded"]

_PIECE_BYTES = 64 * 1024
"""As much as the server reads ahead. Making a piece takes a tenth of a millisecond."""

_READ_BYTES = 16 * 1024
"""Compressed bytes that a stream is given at once: where it ends among them, the rest of them is copied."""

_MOST_MEMBERS = 16_384
"""gzip and zstd may be several streams, one behind the other. Beginning one costs up to 15 µs, so that many cost a
quarter of a second; files of 512 MiB in blocks of 64 KiB (bgzip) have half of them."""

_WINDOW_LOG = 23
"""A window of 8 MiB is what RFC 9659 has receivers of zstd take; a stream may ask for 128 MiB and more."""

MOST_CODINGS = 2
"""Codings around each other. Clients use one, a proxy may add its own."""

Source = Callable[[], Awaitable[bytes | None]]
"""The next piece, not empty; None at the end."""


class _Decompressor(Protocol):
    """One stream, as the decompressors of the standard library have it, but for zlib's."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's, which keeps what it has not read outside of itself.

    Args:
        window_bits: 31 for gzip's frame (RFC 1952), 15 for zlib's (RFC 1950), which HTTP calls deflate.
    """

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        made = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        # A full piece may be followed by more, even where all has been read.
        self.needs_input = len(made) < max_length and not self._stream.unconsumed_tail
        return made


def _zstd() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "zstd": _zstd,
}
CODINGS = tuple(_DECOMPRESSORS)
"""What is read, by HTTP's names."""


class _Coding:
    """Takes one coding away.

    Args:
        name: Of `CODINGS`.
        source: The pieces as they are with it.
        limit: The most bytes without it.
    """

    def __init__(self, name: str, source: Source, limit: int) -> None:
        self._name = name
        self._source = source
        self._limit = limit
        self._stream: _Decompressor | None = None
        self._members = 0
        self._given = b""
        self._at = 0  # where the streams are in it
        self._made = 0

    @property
    def idle(self) -> bool:
        """Whether what came until now has been made whole."""
        return self._stream is None and self._at == len(self._given)

    async def read(self) -> bytes | None:
        """The next piece without the coding. What is cancelled while it waits is asked for again.

        Raises:
            InvalidRequest: These are no such streams, or the last one is cut off.
            PayloadTooLarge: It becomes more than the limit.
        """
        while True:
            if self._at < len(self._given) or (self._stream is not None and not self._stream.needs_input):
                await asyncio.sleep(0)
            else:
                given = await self._source()
                if given is None:
                    if not self.idle:
                        raise self._broken("ends in the middle of its data")
                    return None
                self._given, self._at = given, 0
            made = self._step()
            if made:
                return made

    def _step(self) -> bytes:
        if self._stream is None:
            self._members += 1
            if self._members > _MOST_MEMBERS:
                raise self._broken(f"is in more than {_MOST_MEMBERS} parts")
            self._stream = _DECOMPRESSORS[self._name]()
        given = self._given[self._at : self._at + _READ_BYTES] if self._stream.needs_input else b""
        self._at += len(given)
        try:
            made = self._stream.decompress(given, _PIECE_BYTES)
        except (zlib.error, zstd.ZstdError):
            raise self._broken("is none, or asks for too much memory") from None
        if self._stream.eof:
            self._at -= len(self._stream.unused_data)
            self._stream = None
        self._made += len(made)
        if self._made > self._limit:
            raise _too_large(self._limit)
        return made

    def _broken(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"The body, {self._name} by its Content-Encoding, {what}. Send it whole, or without compression.",
            param="Content-Encoding",
            code="invalid_content_encoding",
        )


class _Gone(Exception):
    """The client left in the middle of the body."""


def decoded(receive: Receive, codings: Sequence[str], *, limit: int) -> Receive:
    """The messages of a request, with its body as it was before ``codings`` (of `CODINGS`), in their order.

    Args:
        receive: The request's messages.
        codings: One or more.
        limit: The longest body in bytes, compressed as well as not.
    """
    return _Decoded(receive, codings, limit).receive


class _Decoded:
    def __init__(self, receive: Receive, codings: Sequence[str], limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._came = 0
        self._ended = False  # the compressed body
        self._over = False  # the body
        self._codings: list[_Coding] = []
        source: Source = self._compressed
        for name in reversed(codings):
            self._codings.append(_Coding(name, source, limit))
            source = self._codings[-1].read
        self._read = source

    async def receive(self) -> Message:
        """The next message of the request."""
        if self._over:
            return await self._receive()
        try:
            piece = await self._read()
        except _Gone:
            return {"type": "http.disconnect"}
        # Said with the last piece, not behind it: who waits for a place must know that nothing more comes.
        self._over = piece is None or (self._ended and all(coding.idle for coding in self._codings))
        return {"type": "http.request", "body": piece or b"", "more_body": not self._over}

    async def _compressed(self) -> bytes | None:
        while not self._ended:
            message = await self._receive()
            if message["type"] != "http.request":
                raise _Gone
            self._ended = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self._came += len(piece)
            if self._came > self._limit:
                raise _too_large(self._limit)
            if piece:
                return piece
        return None


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body, decompressed, is over the limit of {limit} bytes. Send less.")
