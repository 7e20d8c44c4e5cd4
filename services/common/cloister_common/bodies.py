"""JSON bodies as RFC 8259 has them, and nothing else.

FastAPI reads bodies with the standard library, which takes ``NaN``, halves of surrogate pairs, UTF-16 and integers of
any size. None of them can be stored or passed on as JSON again, so they must be the caller's error, not ours later.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

__all__ = ["JsonRoute"]


class JsonRoute(APIRoute):
    """A route that reads its body strictly. Give it to ``APIRouter(route_class=JsonRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, on a request that reads strictly."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_strictly


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body's value. Raises `json.JSONDecodeError`, which becomes a 400, for all that is not JSON."""
        return orjson.loads(await self.body())
