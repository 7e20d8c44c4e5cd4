"""Notices that vLLM's grammar compiler hangs, while everything else of the pod looks well.

vLLM compiles in threads that nothing can end. One that hangs leaves its request waiting for ever; when all of them
hang no structured answer begins any more, and ``/health`` says nothing of it. A structured answer that is late may
just as well stand in a queue. So the watch asks vLLM for two answers of one token, a plain and a structured one: when
only the plain one comes, it is the compiler.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from starlette.types import ASGIApp, Message, Scope, Send

__all__ = ["CompilerWatch", "asks_of"]

log = get_logger(__name__)

_LOOKS = 4
"""How often the watch looks within the time it grants."""

Ask = Callable[[bool], Awaitable[None]]
"""Asks for one token, structured or not; returns when it has come, whatever it is."""


class CompilerWatch:
    """Watches the structured answers of this pod that have not begun.

    Args:
        seconds: How long an answer may be late, and then the compiler.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[object, float] = {}

    @contextmanager
    def waiting(self, send: Send) -> Iterator[Send]:
        """A structured request that waits for its answer; gives the ``send`` that sees it begin."""
        request = object()
        self._waiting[request] = time.monotonic()

        async def seen(message: Message) -> None:
            if message.get("body"):
                self._waiting.pop(request, None)
            await send(message)

        try:
            yield seen
        finally:
            self._waiting.pop(request, None)

    async def until_it_hangs(self, ask: Ask) -> None:
        """Returns when the compiler hangs."""
        while True:
            await asyncio.sleep(self._seconds / _LOOKS)
            oldest = min(self._waiting.values(), default=None)
            if oldest is None or time.monotonic() - oldest < self._seconds:
                continue
            if await self._hangs(ask):
                log.error("schema_compiler_hangs", waiting=len(self._waiting))
                return
            # A structured answer that is not streamed begins at its end: it may be late for long, and all is well.
            await asyncio.sleep(self._seconds)

    async def _hangs(self, ask: Ask) -> bool:
        plain, structured = (asyncio.ensure_future(ask(kind)) for kind in (False, True))
        try:
            await asyncio.wait({plain, structured}, return_when=asyncio.FIRST_COMPLETED)
            # From here on vLLM has time for new requests: the structured one has as long again.
            await asyncio.wait({structured}, timeout=self._seconds)
            return not structured.done() and plain.exception() is None
        finally:
            plain.cancel()
            structured.cancel()
            await asyncio.gather(plain, structured, return_exceptions=True)


def asks_of(app: ASGIApp, application: object, request: Callable[[bool], bytes], path: str) -> Ask:
    """`Ask` of an application in this process, without a connection.

    Args:
        app: vLLM's, behind the guard.
        application: What it takes for the whole of itself (``scope["app"]``).
        request: The body of the question.
        path: Where it is posted.
    """

    async def ask(structured: bool) -> None:
        body = request(structured)
        scope: Scope = {
            "type": "http",
            "app": application,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            "client": None,
            "server": None,
            "state": {},
        }
        asked = _Asked(body)
        await app(scope, asked.receive, asked.send)
        if asked.status >= 500:
            raise Unavailable("vLLM did not answer.")

    return ask


class _Asked:
    """The caller's side of a question to an application."""

    def __init__(self, body: bytes) -> None:
        self.status = 500
        self._body: bytes | None = body

    async def receive(self) -> dict[str, Any]:
        """The body, once; this caller never leaves."""
        if self._body is None:
            await asyncio.Event().wait()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Keeps the status only."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
