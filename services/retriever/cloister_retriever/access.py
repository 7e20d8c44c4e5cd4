"""Who calls, and what answers: the tenant of a call, and the services that a route asks for by their type.

Routes know the services of their own room, never who made them: `cloister_retriever.context` builds them, and the
application provides them.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, TypeVar

from cloister_common.internal import InternalTokens, tenant_of
from fastapi import Depends, FastAPI, Request

from cloister_retriever.storage.objects import Objects

__all__ = ["Tenant", "provide", "room", "service"]

S = TypeVar("S")


def provide(app: FastAPI, services: Iterable[object]) -> None:
    """Makes ``services`` what the routes of ``app`` may ask for."""
    app.state.services = tuple(services)


def service(wanted: type[S]) -> Callable[[Request], Awaitable[S]]:
    """A dependency: the one service of this type. ``Annotated[FileService, Depends(service(FileService))]``."""

    # A coroutine, since FastAPI calls other functions in a thread.
    async def find(request: Request) -> S:
        [found] = [one for one in request.app.state.services if isinstance(one, wanted)]
        return found

    return find


async def _tenant(request: Request, tokens: Annotated[InternalTokens, Depends(service(InternalTokens))]) -> str:
    tokens.require(request)
    return tenant_of(request)


Tenant = Annotated[str, Depends(_tenant)]
"""The tenant of an authenticated call. A route without this parameter would be open: a test looks for one."""


async def room(_: Tenant, objects: Annotated[Objects, Depends(service(Objects))]) -> None:
    """For routes that take something in: refused while the object store is short of room."""
    objects.check_room()
