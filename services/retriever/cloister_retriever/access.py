"""Who calls: every route but the health routes needs the internal token and the tenant the gateway speaks for."""

from typing import Annotated

from cloister_common.internal import tenant_of
from fastapi import Depends, Request

from cloister_retriever.context import Context

__all__ = ["ContextOfApp", "Tenant", "room"]


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


def _tenant(request: Request) -> str:
    _context(request).tokens.require(request)
    return tenant_of(request)


def room(request: Request, _: Annotated[str, Depends(_tenant)]) -> None:
    """For routes that take something in: refused while the object store is short of room."""
    _context(request).objects.check_room()


ContextOfApp = Annotated[Context, Depends(_context)]
"""What lives as long as the process."""

Tenant = Annotated[str, Depends(_tenant)]
"""The tenant of an authenticated call. A route without this parameter would be open: a test looks for one."""
