"""The app shell: what every FastAPI application of ours has before its own routes.

A request goes through the shell (`cloister_common.middleware`), the guard where there is one, and then either straight
to a route that is called directly (`cloister_common.direct`) or through FastAPI's router. Errors of the
`cloister_common.errors` tree, validation failures and everything unforeseen leave as OpenAI's error object. A path is
the same with a slash at its end, or with two where one belongs, as base URLs that end in one make of it. A redirect
would lose the body with some clients and the credential with others, so there is none.
``/livez`` says the process turns; ``/readyz`` runs the service's checks and names those that fail. ``/health`` is the
same under the name that load generators and frontends poll, as vLLM has it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister_common.bodies import set_most_values
from cloister_common.browsers import Origins
from cloister_common.direct import DirectRoute
from cloister_common.errors import CloisterError, error_object
from cloister_common.logs import get_logger
from cloister_common.middleware import HEALTH_PATHS, Shell, error_response
from cloister_common.validation import field_path, validation_error
from cloister_common.values import MOST_VALUES

__all__ = [
    "HEALTH_PATHS",
    "BaseApp",
    "ReadinessCheck",
    "create_base_app",
    "error_response",
    "field_path",
    "validation_error",
]

log = get_logger(__name__)

ReadinessCheck = Callable[[], Awaitable[None]]
"""Returns when its part is ready, raises with a reason otherwise."""

_READINESS_SECONDS = 5.0

_SLASHES = re.compile("//+")
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""What routes are asked for; HEAD goes where GET does, and OPTIONS everywhere."""


class BaseApp(FastAPI):
    """FastAPI inside of our shell.

    Args:
        shell: What is outside of everything.
        keywords: As `FastAPI`.
    """

    def __init__(self, shell: Callable[[ASGIApp], ASGIApp], **keywords: Any) -> None:
        super().__init__(**keywords)
        self._shell = shell(self._enter)
        self._inside: ASGIApp = self._route
        self._direct: dict[tuple[str, str], DirectRoute] = {}

    def add_layer(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        """Puts ``layer`` between the shell and all routes, around the layers that are there: what it refuses is still
        logged and counted."""
        self._inside = layer(self._inside)

    def include_router(self, router: APIRouter, **keywords: Any) -> None:
        """Serves the routes of ``router``."""
        super().include_router(router, **keywords)
        # A prefix would be FastAPI's to add: it serves those itself, as it serves all that is not found here.
        for route in () if keywords else router.routes:
            if isinstance(route, DirectRoute):
                self._direct.update({(method, route.path): route for method in route.methods or ()})

    def leave_out(self, method: str, path: str) -> None:
        """Has ``method`` on ``path``, which routes of other methods match, be a 404 like all that is not served."""
        self.add_api_route(path, _not_served, methods=[method])

    def methods_of(self, scope: Scope) -> list[str]:
        """The methods that a request's path is served for, as ``Allow`` lists them; none where it is unknown."""
        found = [method for method in _METHODS if self._serves({**scope, "method": method})]
        heads = ["HEAD"] if "GET" in found else []
        return sorted([*found, *heads, "OPTIONS"]) if found else []

    def _serves(self, scope: Scope) -> bool:
        matches = (route.matches(scope) for route in self.router.routes)
        return next(
            (found.get("endpoint") is not _not_served for match, found in matches if match is Match.FULL), False
        )

    def build_middleware_stack(self) -> ASGIApp:
        """FastAPI's layers that the shell does not stand for: not its telemetry, its limit of bodies and its answer to
        the unforeseen, which cost every message.

        Raises:
            TypeError: A layer was added as to FastAPI: it would not stand around what is called directly.
        """
        if self.user_middleware:
            raise TypeError("put layers around this application with add_layer")
        return ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        path = scope.get("path", "")
        if path.endswith("/") or "//" in path:
            scope["path"] = _SLASHES.sub("/", path).rstrip("/") or "/"
        await self._shell(scope, receive, send)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await self._inside(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = self._direct.get((scope["method"], scope["path"]))
            if route is not None:
                await route.serve(scope, receive, send)
                return
            if scope["method"] == "OPTIONS" and (methods := self.methods_of(scope)):
                await Response(status_code=204, headers=_allow(methods))(scope, receive, send)
                return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)


def create_base_app(
    *,
    title: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[Any]],
    checks: Callable[[FastAPI], Mapping[str, ReadinessCheck]],
    max_body_bytes: int,
    larger_bodies: Mapping[str, int] | None = None,
    max_json_values: int = MOST_VALUES,
    origins: Origins | None = None,
) -> BaseApp:
    """A FastAPI application in our shell, with our error shape and health routes, and nothing else.

    Args:
        title: The service's name.
        lifespan: Builds and closes what lives as long as the process.
        checks: The readiness checks by the name of the part they look at; asked anew at each ``/readyz``.
        max_body_bytes: Bodies over this size are refused with 413 before they are read.
        larger_bodies: Other limits by path prefix (uploads).
        max_json_values: JSON bodies of more values are refused with 413 before anything is made of them.
        origins: Whose pages may call from a browser; nobody's by default.
    """
    # FastAPI's own telemetry would record validation failures, which quote request bodies.
    app = BaseApp(
        partial(Shell, max_body_bytes=max_body_bytes, larger=larger_bodies, origins=origins),
        title=title,
        lifespan=_reported(lifespan),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"logs": False},
        redirect_slashes=False,
    )
    set_most_values(app, max_json_values)
    app.add_exception_handler(CloisterError, _on_cloister_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health")
    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        named = checks(app)
        results = await asyncio.gather(*(_run_check(check) for check in named.values()))
        parts = dict(zip(named, results, strict=True))
        ready = all(reason is None for reason in results)
        body = {
            "status": "ready" if ready else "not ready",
            "parts": {name: "ready" if reason is None else reason for name, reason in parts.items()},
        }
        return JSONResponse(body, status_code=200 if ready else 503)

    return app


def _reported(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[Any]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[Any]]:
    """``lifespan``, logging what fails in it. Why a start failed stays in ``app.state.start_failure`` for `serve`."""

    @asynccontextmanager
    async def reported(app: FastAPI) -> AsyncIterator[Any]:
        started = False
        try:
            async with lifespan(app) as state:
                started = True
                yield state
        except Exception as error:
            log.error("stop_failed" if started else "start_failed", exc_info=error)
            if not started:
                app.state.start_failure = error
            raise

    return reported


async def _not_served() -> None:
    raise HTTPException(404)


def _allow(methods: list[str]) -> dict[str, str]:
    return {"allow": ", ".join(methods)}


async def _run_check(check: ReadinessCheck) -> str | None:
    try:
        await asyncio.wait_for(check(), _READINESS_SECONDS)
    except TimeoutError:
        return f"no answer within {_READINESS_SECONDS:g} s"
    except CloisterError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - whatever a check raises is the reason it gives
        return type(error).__name__
    return None


async def _on_cloister_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CloisterError)
    return error_response(error)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(validation_error(error.errors()))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"Invalid URL ({request.method} {request.url.path})"
        return JSONResponse(error_object(message, type="invalid_request_error", code="unknown_url"), status_code=404)
    if error.status_code == 405:
        message = f"Not allowed to {request.method} on {request.url.path}"
        body = error_object(message, type="invalid_request_error", code="method_not_supported")
        return JSONResponse(body, status_code=405, headers=_allow(request.app.methods_of(request.scope)))
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return JSONResponse(error_object(str(error.detail), type=kind), status_code=error.status_code)
