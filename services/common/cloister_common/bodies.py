"""JSON bodies as RFC 8259 has them, of a bounded number of values: how every route reads them.

FastAPI reads bodies with the standard library, which takes ``NaN``, halves of surrogate pairs, UTF-16 and integers of
any size. None of them can be stored or passed on as JSON again, so they must be the caller's error, not ours later.

A body is read as JSON whatever its type is called: ``curl -d`` calls it a form, and some clients say nothing. Pages in
browsers can send such types without asking first, which is why FastAPI is strict about them; but they cannot add a
key to them. Only forms in parts are refused by name, since their bodies are something else.
"""

import asyncio
from collections.abc import Callable, Coroutine
from email.message import Message
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from cloister_common.errors import CloisterError, InvalidRequest, UnsupportedMediaType
from cloister_common.validation import body_error
from cloister_common.values import MOST_VALUES, check_values

__all__ = ["JsonRoute", "aside", "check_type", "parse_json", "read_body", "set_most_values", "validated"]

_BOM = b"\xef\xbb\xbf"
"""What editors and PowerShell put before UTF-8. RFC 8259 lets a reader pass over it."""

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
        super().__init__(request.scope if adapter is None else _as_json(request), request.receive)
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


def check_type(content_type: str) -> None:
    """Raises `UnsupportedMediaType` for a body in parts, where JSON is read."""
    if content_type.lstrip().lower().startswith("multipart/"):
        raise UnsupportedMediaType(
            "This route reads JSON, not a form. Send it with 'Content-Type: application/json'.", param="Content-Type"
        )


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    """Whether FastAPI reads a body of this type as JSON."""
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _as_json(request: Request) -> Scope:
    """The scope of a request that FastAPI reads as JSON."""
    sent = request.headers.get("content-type", "")
    if sent and _is_json(sent):
        return request.scope
    check_type(sent)
    headers = [header for header in request.scope["headers"] if header[0] != b"content-type"]
    return {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}


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
    raw = raw.removeprefix(_BOM)
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
