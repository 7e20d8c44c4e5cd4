"""JSON bodies as RFC 8259 has them, of a bounded number of values: how every route reads them.

FastAPI reads bodies with the standard library, which takes ``NaN``, halves of surrogate pairs, UTF-16 and integers of
any size. None of them can be stored or passed on as JSON again, so they must be the caller's error, not ours later.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cloister_common.errors import CloisterError, InvalidRequest
from cloister_common.validation import body_error
from cloister_common.values import MOST_VALUES, check_values

__all__ = ["JsonRoute", "aside", "parse_json", "read_body", "set_most_values", "validated"]

_LARGE_BYTES = 64 * 1024
"""From here on a body is worth a thread, which costs 0.1 ms: its thousands of values take longer to be checked."""

_FEW_STRINGS = 64
"""The most that a body of numbers has beside them: its keys, and what is told in words."""

T = TypeVar("T")


def set_most_values(app: FastAPI, most: int) -> None:
    """Has `JsonRoute` and `read_body` allow ``most`` values in a body of ``app``."""
    app.state.most_json_values = most


class JsonRoute(APIRoute):
    """A route that reads its body strictly. Give it to ``APIRouter(route_class=JsonRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, on a request that reads strictly."""
        handle = super().get_route_handler()
        model: Any = None if self.body_field is None else self.body_field.field_info.annotation
        adapter = None if model is None else TypeAdapter[Any](model)

        async def handle_strictly(request: Request) -> Response:
            try:
                return await handle(_JsonRequest(request, adapter))
            except HTTPException as error:
                # What is raised while FastAPI reads becomes a body that cannot be parsed.
                if isinstance(error.__cause__, CloisterError):
                    raise error.__cause__ from None
                raise

        return handle_strictly


class _JsonRequest(Request):
    def __init__(self, request: Request, adapter: TypeAdapter[Any] | None) -> None:
        super().__init__(request.scope, request.receive)
        self._adapter = adapter

    async def json(self) -> Any:
        """The body's value, for FastAPI to validate; of a large one the model itself, validated in a thread.

        Raises:
            json.JSONDecodeError: It is not JSON; FastAPI makes a 400 of it.
            CloisterError: It has too many values, or is no such model.
        """
        raw = await read_body(self)
        value = orjson.loads(raw)
        if self._adapter is None or len(raw) < _LARGE_BYTES:
            return value
        return await validated(self._adapter, raw, value)


async def validated(adapter: TypeAdapter[T], raw: bytes, value: Any) -> T:
    """The model of ``value``, which stood in ``raw``. Raises `InvalidRequest` that names the field."""
    try:
        return await aside(len(raw), adapter.validate_python, value)
    except ValidationError as error:
        raise body_error(error) from None


async def aside(size: int, work: Callable[..., T], *arguments: Any) -> T:
    """``work(*arguments)``; where it is about a request of so many bytes that it takes long, in a thread.

    It is Python's code for the most part, which lets the event loop have its turn every 5 ms.
    """
    return work(*arguments) if size < _LARGE_BYTES else await asyncio.to_thread(work, *arguments)


async def read_body(request: Request, *, most_numbers: int = 0) -> bytes:
    """The raw body, which has no more values than this application allows.

    Args:
        request: Whose body it is.
        most_numbers: As many values may be in it where they are numbers, but for a few: a list of token ids. Of those
            each costs an eighth of what a string or an object does.

    Raises:
        InvalidRequest: The caller left before its end.
        PayloadTooLarge: It has too many values.
    """
    try:
        raw = await request.body()
    except ClientDisconnect as error:
        raise InvalidRequest("The request ended before its body did.") from error
    most = getattr(request.app.state, "most_json_values", MOST_VALUES)
    if most_numbers > most and raw.count(b'"') <= 2 * _FEW_STRINGS:
        most = most_numbers
    await check_values(raw, most)
    return raw


def parse_json(raw: bytes) -> Any:
    """The value of a body or message. Raises `InvalidRequest` for all that is not JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error
