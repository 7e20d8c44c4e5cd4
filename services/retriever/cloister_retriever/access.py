"""Who calls: every route but the health routes needs the internal token and the tenant the gateway speaks for.

It may say for whom of the tenant, too: `Asking`.
"""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.caller import Caller, caller_of
from cloister_common.internal import InternalTokens, tenant_of
from cloister_common.payer import Payer, payer_of
from fastapi import Depends, Request

from cloister_retriever.storage.objects import Objects

__all__ = ["Asking", "Paid", "Tenant", "room"]


async def _tenant(request: Request, tokens: Annotated[InternalTokens, Depends(provided(InternalTokens))]) -> str:
    tokens.require(request)
    return tenant_of(request)


Tenant = Annotated[str, Depends(_tenant)]
"""The tenant of an authenticated call. A route without this parameter would be open: a test looks for one."""


async def _asking(_: Tenant, request: Request) -> Caller:
    return caller_of(request)


Asking = Annotated[Caller, Depends(_asking)]
"""Who of the tenant an authenticated call is made for."""


async def _paid(_: Tenant, request: Request) -> Payer | None:
    return payer_of(request)


Paid = Annotated[Payer | None, Depends(_paid)]
"""Who pays for what an authenticated call has ingested."""


async def room(_: Tenant, objects: Annotated[Objects, Depends(provided(Objects))]) -> None:
    """For routes that take something in: refused while the object store is short of room."""
    objects.check_room()
