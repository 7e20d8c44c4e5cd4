"""The shell around an application: one layer of pure ASGI, so that nothing is buffered and no task is added.

It gives each request an id and one log line, counts it, bounds its body, and answers what nobody foresaw. It is one
layer rather than one for each of these, since every layer costs every message: a token of a stream, once its answer
has begun, costs one call here.
"""

import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_common.browsers import Cors, Origins
from cloister_common.decoding import CODINGS, MOST_CODINGS, decoded
from cloister_common.encodings import check_encoding, codings_of
from cloister_common.errors import CloisterError, ExpectationFailed, PayloadTooLarge
from cloister_common.ids import new_id
from cloister_common.logs import bind_log_fields, clear_log_fields, get_logger, log_plainly
from cloister_common.metrics import count_answer

__all__ = [
    "HEALTH_PATHS",
    "Shell",
    "error_response",
    "unforeseen",
]

log = get_logger(__name__)
_request_log = logging.getLogger(__name__)

HEALTH_PATHS = frozenset({"/health", "/livez", "/readyz"})
"""What every service answers whoever asks, and does not log: probes come every few seconds."""

_OF_CODED_BODIES = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""Headers that are not true of a body that was decompressed."""

_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
"""The messages that carry an answer's headers."""


def error_response(error: CloisterError) -> JSONResponse:
    """The HTTP response of an error of ours."""
    return JSONResponse(error.body(), status_code=type(error).status, headers=error.headers())


def unforeseen(error: Exception, scope: Scope | None = None) -> CloisterError:
    """Logs an exception nobody foresaw; what the caller gets to see says nothing of it."""
    route = getattr(scope.get("route"), "path", None) if scope else None
    log.error("request_failed", route=route, exc_info=error)
    return CloisterError("The server had an error while processing your request. Try again; the operator's log has it.")


class Shell:
    """What stands around every application of ours.

    - Each request gets an id (``x-request-id``, which OpenAI's SDKs show) and one log line without content. A
      WebSocket's line comes when it ends: ``status`` is 101 where it was accepted. Whoever finds out who calls puts
      that into the line with `bind_log_fields`.
    - Its answer is counted by route and status, and timed until it begins.
    - A body over the limit is refused by its declared length, or as soon as that many bytes have come in. One that is
      compressed is handed on as it was before, under the same limit. Whatever the application makes of a body that
      broke off, the caller gets the refusal.
    - HEAD is served as GET, whose body is not sent: the application is told that its client has gone when it begins
      one, and knows nothing of HEAD.
    - Who asks with ``Expect`` before it sends a body is told to send it when the application reads. Where the answer
      comes before that, the connection ends with it: neither side could tell whether the body still comes.
    - A page of a listed origin may read every answer, a refusal too, and its browser's question before a request is
      answered here, without a key (`cloister_common.browsers`).
    - An exception nobody foresaw becomes a 500. When the start or the end of the application fails, Starlette hands
      the whole traceback to the server's log, with messages that may quote content; this takes them out.

    Args:
        app: The application.
        max_body_bytes: The longest body.
        larger: Other limits by path prefix (uploads).
        origins: Whose pages may call from a browser.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        larger: Mapping[str, int] | None = None,
        origins: Origins | None = None,
    ) -> None:
        self._app = app
        self._cors = Cors(origins or Origins())
        self._max_body_bytes = max_body_bytes
        self._larger = tuple((larger or {}).items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, partial(_without_traceback, send))
            return
        exchange = _Exchange(scope, receive, send, self._limit(scope["path"]))
        bind_log_fields(request_id=exchange.request_id)
        try:
            if scope["type"] == "http":
                exchange.more_headers = self._cors.headers(scope)
                await self._serve(exchange)
            else:
                await self._app(scope, receive, exchange.send)
        finally:
            exchange.log()
            # What was bound belongs to this request; a server may go on in the same context.
            clear_log_fields()

    def _limit(self, path: str) -> int:
        for prefix, size in self._larger:
            if path.startswith(prefix):
                return size
        return self._max_body_bytes

    async def _serve(self, exchange: "_Exchange") -> None:
        try:
            exchange.check_head()
            allowed = self._cors.preflight(exchange.scope)
            if allowed is not None:
                await exchange.send({"type": "http.response.start", "status": 204, "headers": allowed})
                await exchange.send({"type": "http.response.body"})
                return
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except CloisterError as error:
            # Where half an answer is on its way, the server cuts what returns unfinished, without a traceback.
            if not exchange.answered:
                await exchange.refuse(error)
        except Exception as error:
            answer = unforeseen(error, exchange.scope)
            if exchange.answered:
                # Only cutting the connection tells the caller that it is half an answer.
                raise
            await exchange.refuse(answer)


class _Exchange:
    """One request and its answer, as far as the shell looks at them.

    Attributes:
        scope: The request's.
        request_id: Its id.
        more_headers: What its answer carries besides its own.
    """

    __slots__ = (
        "_begun_at",
        "_expects",
        "_failure",
        "_limit",
        "_method",
        "_next",
        "_receive",
        "_received",
        "_send",
        "_status",
        "more_headers",
        "request_id",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        self._method = scope.get("method", "WEBSOCKET")
        # A copy, since the server looks into its own to know whether the answer has a body.
        self.scope = {**scope, "method": "GET"} if self._method == "HEAD" else scope
        self.request_id = new_id("req_")
        self.more_headers: Sequence[tuple[bytes, bytes]] = ()
        self._receive = receive
        self._send = send
        self._limit = limit
        self._received = 0
        self._expects = False
        self._failure: CloisterError | None = None
        self._status = 0
        self._next: Send = self._begin
        self._begun_at = time.perf_counter()

    @property
    def answered(self) -> bool:
        """Whether the answer has begun."""
        return self._status != 0

    def check_head(self) -> None:
        """Raises what a request is refused with before any of its body is read."""
        declared, compressed = b"0", False
        for name, value in self.scope["headers"]:
            if name == b"content-length":
                declared = value
            elif name == b"content-encoding":
                compressed = True
            elif name == b"expect":
                self._expects = True
                if value.strip().lower() != b"100-continue":
                    raise ExpectationFailed("Only 'Expect: 100-continue' is known. Leave the header out.")
        if compressed:
            self._decode()
        if not declared.isdigit() or int(declared) > self._limit:
            raise self._too_large()

    def _decode(self) -> None:
        """Has the application read the body as it was before it was compressed, and headers that say so."""
        headers = self.scope["headers"]
        check_encoding(headers, known=CODINGS, most=MOST_CODINGS)
        codings = codings_of(headers)
        if codings:
            self._receive = decoded(self._receive, codings, limit=self._limit)
            self.scope["headers"] = [
                *(header for header in headers if header[0] not in _OF_CODED_BODIES),
                (b"transfer-encoding", b"chunked"),
            ]

    async def receive(self) -> Message:
        """The next message of the request, for the application."""
        self._expects = False
        try:
            message = await self._receive()
            if message["type"] == "http.request":
                self._received += len(message.get("body", b""))
                if self._received > self._limit:
                    raise self._too_large()
        except CloisterError as error:
            self._failure = error
            raise
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Sends a message of the answer. No coroutine of its own: that would cost a microsecond for each token."""
        return self._next(message)

    async def refuse(self, error: CloisterError) -> None:
        """Makes ``error`` the answer, which has not begun."""
        await error_response(error)(self.scope, self._receive, self.send)

    def log(self) -> None:
        """Logs the request, which has ended."""
        if self.scope["path"] not in HEALTH_PATHS:
            fields = {
                "method": self._method,
                "route": self._route,
                "status": self._status,
                "seconds": round(time.perf_counter() - self._begun_at, 4),
            }
            log_plainly(_request_log, "request", fields)

    @property
    def _route(self) -> str | None:
        return getattr(self.scope.get("route"), "path", None)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The request body is over the limit of {self._limit} bytes. Send less.")

    async def _begin(self, message: Message) -> None:
        """Sends the first message of an answer, with what the shell adds."""
        if self._failure is not None:
            # Whatever the application makes of a body that broke off: FastAPI would call it one that cannot be parsed.
            failure, self._failure = self._failure, None
            await self.refuse(failure)
            self._next = _nowhere
            return
        if message["type"] in _ANSWERS:
            self._next = self._send
            self._status = message.get("status", 101)
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode()), *self.more_headers]
            if self.scope["type"] == "http":
                seconds = time.perf_counter() - self._begun_at
                count_answer(self._method, self._route, self._status, seconds)
                if self._expects:
                    headers.append((b"connection", b"close"))
                if self._method == "HEAD":
                    self._next = self._end_head
            message = {**message, "headers": headers}
        await self._send(message)

    async def _end_head(self, _: Message) -> None:
        """Ends the answer to a HEAD in the place of its body."""
        self._next = _nowhere
        await self._send({"type": "http.response.body", "body": b""})


async def _nowhere(_: Message) -> None:
    """Where an answer goes that another has taken the place of."""


async def _without_traceback(send: Send, message: Message) -> None:
    if message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
        message = {"type": message["type"], "message": ""}
    await send(message)
