"""What the caller of a route sees, as a route asks for it."""

from typing import Annotated

from cloister_common.access import provided
from fastapi import Depends

from cloister_retriever.access import Asking, Tenant
from cloister_retriever.audience.service import Audiences, Sight

__all__ = ["Sighted"]


async def _sight(
    tenant: Tenant, caller: Asking, audiences: Annotated[Audiences, Depends(provided(Audiences))]
) -> Sight:
    return Sight(audiences, tenant, caller)


Sighted = Annotated[Sight, Depends(_sight)]
"""What an authenticated caller sees. A route that gives or takes files and has not this parameter shows them all."""
