"""One call to another part of ours: a deadline for all of it, bounded retries, and errors as our own.

Only for calls that may be made twice without harm. A part that restarts, sheds load or rolls out is met with a
growing, jittered pause, so that its callers do not all come back at the same moment ("full jitter", AWS Architecture
Blog, "Exponential Backoff And Jitter").
"""

import asyncio
import itertools
import random
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

import httpx
import orjson

from cloister_common.errors import (
    CloisterError,
    Conflict,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)

__all__ = ["AWAY_SECONDS", "RetryPolicy", "call", "check_ready", "upstream_error"]

AWAY_SECONDS = 2.0
"""How long somebody who waits is kept waiting by a part that is not there."""

_SILENT_SECONDS = 1.0
"""After this long without an answer, and each time it has passed again, a part is asked whether it lives."""

_RETRY_AFTER_SECONDS = 2

_CALLERS_FAULT: dict[int, type[CloisterError]] = {
    400: InvalidRequest,
    404: NotFound,
    409: Conflict,
    413: PayloadTooLarge,
    429: TooManyRequests,
    503: Unavailable,
}


class RetryPolicy(NamedTuple):
    """How often and how patiently. A pause is random, up to ``first_seconds`` doubled each time."""

    attempts: int = 5
    first_seconds: float = 0.1
    longest_seconds: float = 2.0


async def call(
    client: httpx.AsyncClient,
    part: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    deadline_seconds: float,
    retry: RetryPolicy = RetryPolicy(),
    away_seconds: float | None = None,
) -> httpx.Response:
    """A successful response, read whole.

    Connection errors, 429 and 503 are retried within the deadline; ``Retry-After`` is obeyed.

    Args:
        client: Its base URL and trust.
        part: Its name, for messages.
        method: HTTP's.
        path: HTTP's.
        headers: HTTP's; the internal token is among them.
        content: HTTP's.
        deadline_seconds: Bound of everything.
        retry: How often and how patiently.
        away_seconds: Where somebody waits: how long ``part`` may be away, which is not to be reached, not ready, or
            silent without even answering ``/livez``. One that is only slow has until the deadline.

    Raises:
        Unavailable: ``part`` cannot be reached, or has not answered in time.
        CloisterError: Its answer was an error; see `upstream_error`.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_seconds
    patience = None if away_seconds is None else min(end, loop.time() + away_seconds)
    try:
        async with asyncio.timeout_at(end):
            for attempt in itertools.count():
                error: CloisterError
                try:
                    asked = client.request(method, path, headers=dict(headers), content=content)
                    response = await (asked if patience is None else _while_alive(client, asked, patience))
                except _Silent:
                    raise _given_up(_unreachable(part)) from None
                except httpx.TimeoutException as cause:
                    if not isinstance(cause, httpx.ConnectTimeout | httpx.PoolTimeout):
                        raise TimeoutError from cause
                    error = _unreachable(part)
                except httpx.TransportError:
                    error = _unreachable(part)
                else:
                    if response.is_success:
                        return response
                    error = upstream_error(part, response)
                pause = max(
                    random.uniform(0, min(retry.first_seconds * 2**attempt, retry.longest_seconds)),  # noqa: S311
                    error.retry_after or 0,
                )
                again = isinstance(error, TooManyRequests | Unavailable) and attempt + 1 < retry.attempts
                until = end
                if patience is not None and isinstance(error, Unavailable):
                    again, until = True, patience
                if not again or loop.time() + pause >= until:
                    raise _given_up(error)
                await asyncio.sleep(pause)
    except TimeoutError:
        raise Unavailable(
            f"The {part} did not answer within {deadline_seconds:g} s. Try again.", retry_after=_RETRY_AFTER_SECONDS
        ) from None
    raise AssertionError("every attempt returns or raises")


async def check_ready(client: httpx.AsyncClient, part: str) -> None:
    """Raises `Unavailable` unless ``part`` says that it is ready. Who asks has a deadline of his own."""
    try:
        response = await client.get("/readyz")
    except httpx.TransportError as error:
        raise _unreachable(part) from error
    if not response.is_success:
        raise Unavailable("not ready")


class _Silent(Exception):
    """A part that was reached, or is still being reached, shows no sign of life."""


async def _while_alive(
    client: httpx.AsyncClient, asked: Coroutine[Any, Any, httpx.Response], patience: float
) -> httpx.Response:
    """The answer, however long it takes, as long as the part says meanwhile that it lives.

    Args:
        client: Asks ``/livez``, which needs no token.
        asked: The request.
        patience: The time of the loop until which a part may be silent, which is a second at least.

    Raises:
        _Silent: It does not.
        httpx.TransportError: As the request.
    """
    loop = asyncio.get_running_loop()
    answering = asyncio.ensure_future(asked)
    try:
        while True:
            left = patience - loop.time() - _SILENT_SECONDS
            await asyncio.wait({answering}, timeout=_SILENT_SECONDS if left < 0 else min(left, _SILENT_SECONDS))
            if answering.done():
                return answering.result()
            living = asyncio.ensure_future(client.get("/livez"))
            try:
                await asyncio.wait({answering, living}, timeout=_SILENT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done() and (not living.done() or living.exception() is not None):
                    raise _Silent
            finally:
                await _ended(living)
    finally:
        await _ended(answering)


async def _ended(task: "asyncio.Future[httpx.Response]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as forgotten


def upstream_error(part: str, response: httpx.Response) -> CloisterError:
    """The error of an answer that was not a success.

    What the original caller can mend (400, 404, 409, 413) or wait for (429, 503) keeps its message, parameter and
    code. Everything else is the stack's own fault, `UpstreamFailed`, without the inside's words.
    """
    kind = _CALLERS_FAULT.get(response.status_code)
    detail = _error_object(response)
    if kind is None or detail is None:
        return UpstreamFailed(f"The {part} answered {response.status_code}. The operator's log has the reason.")
    retry_after = response.headers.get("retry-after", "")
    return kind(
        str(detail.get("message") or "The request was refused."),
        param=detail.get("param"),
        code=detail.get("code"),
        retry_after=int(retry_after) if retry_after.isdigit() else None,
    )


def _error_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    detail = body.get("error") if isinstance(body, dict) else None
    return detail if isinstance(detail, dict) else None


def _given_up(error: CloisterError) -> CloisterError:
    """The error as the caller gets it: where a part is away he is told when to come back."""
    if isinstance(error, Unavailable) and error.retry_after is None:
        error.retry_after = _RETRY_AFTER_SECONDS
    return error


def _unreachable(part: str) -> Unavailable:
    return Unavailable(f"The {part} cannot be reached. Try again.", code="upstream_unreachable")
