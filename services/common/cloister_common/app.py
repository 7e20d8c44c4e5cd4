"""The app shell: what every FastAPI application of ours has before its own routes.

Pure ASGI middleware, in this order from the outside: request id and log line, metrics, body limit, the unforeseen.
Errors of the `cloister_common.errors` tree, validation failures and everything unforeseen leave as OpenAI's error
object.
``/livez`` says the process turns; ``/readyz`` runs the service's checks and names those that fail.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cloister_common.errors import CloisterError, InvalidRequest, UnsupportedParameter, error_object
from cloister_common.logs import get_logger
from cloister_common.metrics import MetricsMiddleware
from cloister_common.middleware import (
    BodyLimitMiddleware,
    RequestLogMiddleware,
    UnforeseenMiddleware,
    error_response,
    unforeseen,
)

__all__ = ["ReadinessCheck", "create_base_app", "error_response", "field_path", "validation_error"]

log = get_logger(__name__)

ReadinessCheck = Callable[[], Awaitable[None]]
"""Returns when its part is ready, raises with a reason otherwise."""

_READINESS_SECONDS = 5.0
_ARM_OF_UNION = re.compile(r"constrained-\w+|(literal|list|dict|function-\w+)?\[.*\]")


def create_base_app(
    *,
    title: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[Any]],
    checks: Callable[[FastAPI], Mapping[str, ReadinessCheck]],
    max_body_bytes: int,
    larger_bodies: Mapping[str, int] | None = None,
) -> FastAPI:
    """A FastAPI application with our middleware, error shape and health routes, and nothing else.

    Args:
        title: The service's name.
        lifespan: Builds and closes what lives as long as the process.
        checks: The readiness checks by the name of the part they look at; asked anew at each ``/readyz``.
        max_body_bytes: Bodies over this size are refused with 413 before they are read.
        larger_bodies: Other limits by path prefix (uploads).
    """
    # FastAPI's own telemetry would record validation failures, which quote request bodies.
    app = FastAPI(
        title=title,
        lifespan=_reported(lifespan),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry={"logs": False},
    )
    app.add_middleware(UnforeseenMiddleware)
    app.add_middleware(BodyLimitMiddleware, max_body_bytes=max_body_bytes, larger=larger_bodies)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(RequestLogMiddleware)
    app.add_exception_handler(CloisterError, _on_cloister_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

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
        return JSONResponse(
            error_object(message, type="invalid_request_error", code="method_not_supported"), status_code=405
        )
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    return JSONResponse(error_object(str(error.detail), type=kind), status_code=error.status_code)


async def _on_unforeseen(_: Request, error: Exception) -> JSONResponse:
    return error_response(unforeseen(error))


def validation_error(errors: Any) -> InvalidRequest:
    """Pydantic's findings as one error of ours: what is not supported by name first, then the first wrong field.

    A validator says that a value is not supported with a `PydanticCustomError` of type ``unsupported_value``. The
    message never repeats the rejected value, which may be content.
    """
    findings = list(errors)
    for finding in findings:
        if finding["type"] == "unsupported_value":
            param = field_path(finding["loc"])
            return UnsupportedParameter(param, f"Unsupported value for '{param}': {finding['msg']}.")
    for finding in findings:
        if finding["type"] == "extra_forbidden":
            return UnsupportedParameter(field_path(finding["loc"]))
    first = findings[0]
    param = field_path(first["loc"])
    if first["type"] == "missing" and param:
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if first["type"] == "json_invalid":
        return InvalidRequest("The body is not valid JSON.", code="invalid_json")
    if not param:
        return InvalidRequest("The body must be a JSON object, sent as application/json.", code="invalid_type")
    return InvalidRequest(f"Invalid value for '{param}': {first['msg']}.", param=param, code="invalid_value")


def field_path(loc: tuple[int | str, ...]) -> str:
    """``("body", "input", 0, "content")`` → ``input[0].content``, without pydantic's names for the arms of a union."""
    path = ""
    for part in loc[1:] if loc and loc[0] in {"body", "query", "path", "header"} else loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _ARM_OF_UNION.fullmatch(part):
            path += f".{part}" if path else part
    return path
