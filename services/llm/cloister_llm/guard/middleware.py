"""The ASGI middleware that vLLM's server loads (``--middleware``): our token, our routes, our fields, our metrics port.

It is the outermost of vLLM's own middleware. It decides on ``scope["path"]``, the path the server parsed, never on a
URL rebuilt from headers. A request body is read once, checked, and handed on; responses pass through untouched, so
that a streamed token costs nothing here.
"""

import json
from collections.abc import Callable
from typing import Any

from cloister_common.errors import (
    CloisterError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unauthenticated,
    Unavailable,
)
from cloister_common.internal import InternalTokens
from cloister_common.metrics import serve_metrics
from cloister_common.settings import SettingsError, read_secret_lines
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_llm.guard.drain import Drain
from cloister_llm.guard.rules import BODIES, HEALTH, PATHS, check_body
from cloister_llm.settings import LlmSettings, pod_settings

__all__ = ["Guard"]

_POLICY_VIOLATION = 1008


def _require_guarded_renderer(app: Any) -> None:
    """Stops the start if vLLM would render prompts by itself: it only logs it when a plugin cannot be loaded."""
    from cloister_llm.rendering.vllm_adapter import GuardedRenderer

    renderer = getattr(getattr(getattr(app, "state", None), "engine_client", None), "renderer", None)
    if not isinstance(renderer, GuardedRenderer):
        raise SettingsError(
            "vLLM did not load Cloister's chat renderer, so prompts would not be guarded. "
            "Install cloister_llm in vLLM's environment."
        )


class Guard:
    """Refuses what `cloister_llm.guard.rules` does not allow."""

    def __init__(
        self,
        app: ASGIApp,
        settings: LlmSettings | None = None,
        *,
        start_metrics: Callable[[str, int], None] = serve_metrics,
        check_app: Callable[[Any], None] = _require_guarded_renderer,
    ) -> None:
        """vLLM passes the application only; everything else is then what this pod needs.

        Raises:
            SettingsError: No settings, or no token.
        """
        self.app = app
        self.settings = settings or pod_settings()
        self.tokens = InternalTokens(read_secret_lines(self.settings.token_file, what="The llm pod's internal token"))
        self.drain = Drain(self.settings.server.shutdown_seconds)
        self._start_metrics = start_metrics
        self._check_app = check_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            # vLLM's WebSockets (realtime audio) are not served. Closing before accepting answers 403.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_app(scope.get("app"))
        server = self.settings.server
        try:
            self._start_metrics(server.host, server.metrics_port)
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {server.host}:{server.metrics_port} for metrics: {error.strerror}. "
                "Stop what uses the port, or set server.metrics_port."
            ) from error
        application = scope["app"]

        def stop() -> None:
            application.state.server.should_exit = True  # uvicorn's own way to be asked

        self.drain.on_signals(stop)
        await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method == "GET" and path in HEALTH and not (path == "/readyz" and self.drain.begun):
            own = HEALTH[path]
            await self.app({**scope, "path": own, "raw_path": own.encode()}, receive, send)
            return
        try:
            if path == "/readyz" and method == "GET":
                raise _draining()
            if (method, path) not in PATHS:
                raise NotFound(f"Invalid URL ({method} {path})", code="unknown_url")
            headers = Headers(scope=scope)
            if not self.tokens.accepts(headers.get("authorization")):
                raise Unauthenticated("This is an internal service: it answers only Cloister's own parts.")
            if self.drain.begun:
                raise _draining()
            if path in BODIES:
                receive = _replay(await self._checked_body(path, receive), receive)
        except CloisterError as error:
            response = JSONResponse(error.body(), status_code=type(error).status, headers=error.headers())
            await response(scope, receive, send)
            return
        with self.drain.request():
            await self.app(scope, receive, send)

    async def _checked_body(self, path: str, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("The request ended before its body did.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.settings.max_body_bytes:
                raise PayloadTooLarge(f"The request body is over the limit of {self.settings.max_body_bytes} bytes.")
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        try:
            decoded = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error
        check_body(path, decoded)
        return body


def _draining() -> Unavailable:
    return Unavailable("This pod is stopping. Ask another one.", retry_after=1)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once and then waits for the disconnect, as the server's own does."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
