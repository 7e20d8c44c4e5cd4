"""How answers leave a connection where uvicorn's own way is not enough: refusals, HTTP/1.0, and the last one of all."""

import json
from asyncio import Transport
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from cloister_common.errors import CloisterError

__all__ = ["LastAnswer", "answer", "answer_in_1_0"]


class LastAnswer:
    """A transport as an answer needs it, whose end is ours: uvicorn closes it behind the last answer.

    Args:
        transport: The connection's.
        end: What to do then.
    """

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: Transport, end: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = end


def answer(error: CloisterError, more: Mapping[str, str] | None = None) -> bytes:
    """``error`` as a whole HTTP response, with ``more`` headers, that ends the connection."""
    body = json.dumps(error.body()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = (f"{name}: {value}\r\n" for name, value in (headers | error.headers() | dict(more or {})).items())
    return b"".join([STATUS_LINE[type(error).status], "".join(lines).encode(), b"\r\n", body])


def answer_in_1_0(cycle: RequestResponseCycle, *, keep_alive: bool) -> None:
    """Has the answer to a request of HTTP/1.0 be one that it can read, which has no chunks and no 100 (Continue).

    An answer without a declared length ends with its connection (RFC 9112, 6.3). One with a length leaves it open for
    whoever asked for that.

    Args:
        cycle: The request and its answer, which has not begun.
        keep_alive: Whether the client asked for the connection to stay.
    """
    cycle.keep_alive = keep_alive
    cycle.waiting_for_100_continue = False
    measured = False

    async def send(message: Any) -> None:
        nonlocal measured
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            measured = b"content-length" in names or cycle.scope["method"] == "HEAD"
            if not measured:
                cycle.chunked_encoding = cycle.keep_alive = False
            elif cycle.keep_alive and b"connection" not in names:
                message = {**message, "headers": [*headers, (b"connection", b"keep-alive")]}
        elif not measured:
            # What uvicorn compares each piece with: of an answer without chunks it wants to know the length.
            cycle.expected_content_length = len(message.get("body", b""))
        await RequestResponseCycle.send(cycle, message)

    cycle.send = send  # type: ignore[method-assign]
