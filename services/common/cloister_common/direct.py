"""Routes that are called directly, for requests whose every microsecond counts.

FastAPI finds a route by trying patterns, opens four exit stacks, and solves each dependency anew, as if it might wait:
half a millisecond, half of what a chat completion cost. A `DirectRoute` is declared and checked like any other, and
stays one of its router's. But its path is a constant, found by one look; and what it depends on is there at once
(`cloister_common.access.Direct`), so that it is called with it and nothing is solved.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import Response
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from cloister_common.access import Direct
from cloister_common.bodies import JsonRoute, check_type, parse_json, read_body, validated
from cloister_common.validation import validation_error

__all__ = ["DirectRoute"]


class DirectRoute(JsonRoute):
    """A route without variables in its path, whose dependencies are `Direct`. Give it to ``APIRouter(route_class=…)``.

    Its endpoint may take the request, a model of the body and headers that may lack, and gives a `Response`.

    Raises:
        TypeError: It is declared with anything else.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **keywords: Any) -> None:
        super().__init__(path, endpoint, **keywords)
        needs = self.dependant
        others = (needs.path_params, needs.query_params, needs.cookie_params, needs.body_params[1:])
        required = [field for field in needs.header_params if field.field_info.is_required()]
        if any(others) or required or not all(isinstance(one.call, Direct) for one in needs.dependencies):
            raise TypeError(
                f"{path} cannot be called directly: it needs more than a body, optional headers and what is there"
            )
        if inspect.signature(endpoint, eval_str=True).return_annotation is not Response:
            raise TypeError(f"{path} cannot be called directly: its endpoint must be declared to give a Response")
        self._call = endpoint
        self._gives = [(one.name, one.call.give) for one in needs.dependencies if isinstance(one.call, Direct)]
        self._body = [(field.name, _adapter(field.field_info.annotation)) for field in needs.body_params]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request to this route's path with one of its methods."""
        scope["route"], scope["endpoint"], scope["path_params"] = self, self.endpoint, {}
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001 - as Starlette: what has no handler is raised again
            response = await _told(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        raw = await read_body(request) if self._body else b""
        # As FastAPI does, so that what is wrong is found in the same order: no JSON, not allowed, not valid.
        if self._body:
            check_type(request.headers.get("content-type", ""))
        value = parse_json(raw) if raw else None
        arguments: dict[str, Any] = {}
        for name, give in self._gives:
            given = give(request)
            if name is not None:
                arguments[name] = given
        if self.dependant.request_param_name is not None:
            arguments[self.dependant.request_param_name] = request
        for field in self.dependant.header_params:
            sent = request.headers.get(field.alias)
            arguments[field.name], errors = (
                (field.default, []) if sent is None else field.validate(sent, {}, loc=("header", field.alias))
            )
            if errors:
                raise validation_error(errors)
        for name, adapter in self._body:
            arguments[name] = await validated(adapter, raw, value)
        return await self._call(**arguments)


def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


async def _told(request: Request, error: Exception) -> Response:
    """The answer of the application's own handler for ``error``; raised again where it has none."""
    for cls in type(error).__mro__:
        handler = request.app.exception_handlers.get(cls)
        if handler is not None:
            response: Response = await handler(request, error)
            return response
    raise error
