"""The middleware of the app shell: pure ASGI, so that nothing is buffered and no task is added."""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_common.errors import CloisterError, PayloadTooLarge, UnsupportedMediaType
from cloister_common.ids import new_id
from cloister_common.logs import bind_log_fields, get_logger

__all__ = [
    "HEALTH_PATHS",
    "BodyLimitMiddleware",
    "RequestLogMiddleware",
    "UnforeseenMiddleware",
    "check_encoding",
    "error_response",
    "unforeseen",
]

log = get_logger(__name__)

HEALTH_PATHS = frozenset({"/livez", "/readyz"})
"""What every service answers whoever asks, and does not log: probes come every few seconds."""

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


def check_encoding(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Lets a body pass that is not compressed; called before any of it is read.

    Raises:
        UnsupportedMediaType: There is a body, and its ``Content-Encoding`` is not ``identity``.
    """
    codings = [
        coding.strip().lower() for name, value in headers if name == b"content-encoding" for coding in value.split(b",")
    ]
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 ")) for name, value in headers
    )
    if has_body and any(coding not in {b"", b"identity"} for coding in codings):
        raise UnsupportedMediaType(
            "Compressed bodies are not read. Send the body as it is, without Content-Encoding.",
            param="Content-Encoding",
        )


class RequestLogMiddleware:
    """Gives each request an id (``x-request-id``, which OpenAI's SDKs show) and logs one line without content.

    A WebSocket's line comes when it ends: ``status`` is 101 where it was accepted. Whoever finds out who calls puts
    that into the line with `bind_log_fields`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in HEALTH_PATHS:
            await self.app(scope, receive, send)
            return
        request_id = new_id("req_")
        started = time.perf_counter()
        status = 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in _ANSWERS:
                status = message.get("status", 101)
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers["x-request-id"] = request_id
                message = {**message, "headers": headers.raw}
            await send(message)

        bind_log_fields(request_id=request_id)
        try:
            await self.app(scope, receive, with_id)
        finally:
            log.info(
                "request",
                method=scope.get("method", "WEBSOCKET"),
                route=getattr(scope.get("route"), "path", None),
                status=status,
                seconds=round(time.perf_counter() - started, 4),
            )
            # What was bound belongs to this request; a server may go on in the same context.
            structlog.contextvars.clear_contextvars()


class BodyLimitMiddleware:
    """Refuses a body over the limit by its declared length, or as soon as that many bytes have come in.

    One that is compressed is refused before: what it would become is in no limit.

    Whatever the application makes of a body that broke off, the caller gets the refusal: FastAPI would call it a body
    that cannot be parsed. A path prefix in ``larger`` may have a limit of its own (uploads).
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, larger: Mapping[str, int] | None = None) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.larger = dict(larger or {})

    def limit(self, path: str) -> int:
        return next((size for prefix, size in self.larger.items() if path.startswith(prefix)), self.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"content-encoding" in headers:
            try:
                check_encoding(scope["headers"])
            except UnsupportedMediaType as error:
                await error_response(error)(scope, receive, send)
                return
        limit = self.limit(scope["path"])
        refusal = PayloadTooLarge(f"The request body is over the limit of {limit} bytes. Send less.")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await error_response(refusal)(scope, receive, send)
            return
        received = 0
        started = refused = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise refusal
            return message

        async def judged(message: Message) -> None:
            nonlocal started, refused
            if received > limit and not started:
                if not refused:
                    refused = True
                    await error_response(refusal)(scope, receive, send)
                return
            started = True
            await send(message)

        await self.app(scope, counted, judged)


class UnforeseenMiddleware:
    """Turns an exception nobody foresaw into a 500 before the other middleware, which counts, logs and names it.

    Starlette's own place for this is outside of all middleware: such answers had no request id and were in no metric.
    When the start or the end of the application fails, Starlette hands the whole traceback to the server's log, with
    messages that may quote content; this takes them out.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, partial(_without_traceback, send))
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if started and isinstance(error, CloisterError):
                return  # As below; the server cuts what returns unfinished, without a traceback in its log.
            if started:
                # Half an answer is on its way: only cutting the connection tells the caller that it is half.
                raise
            answer = error if isinstance(error, CloisterError) else unforeseen(error, scope)
            await error_response(answer)(scope, receive, send)


async def _without_traceback(send: Send, message: Message) -> None:
    if message["type"] in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
        message = {"type": message["type"], "message": ""}
    await send(message)
