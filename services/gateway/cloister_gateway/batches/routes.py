"""``/v1/batches``"""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query, Request

from cloister_gateway.batches.schemas import BatchCreate
from cloister_gateway.batches.service import BatchService
from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.query import NO_QUERY, only_query

__all__ = ["router"]

router = APIRouter(prefix="/v1/batches", route_class=JsonRoute)

Caller = Annotated[Principal, Depends(require("batches"))]
Service = Annotated[BatchService, Depends(provided(BatchService))]


@router.post("", dependencies=[NO_QUERY, LET_END])
async def create(body: BatchCreate, caller: Caller, service: Service) -> dict[str, Any]:
    """Takes a batch on, which is validated first."""
    return await service.create(caller, body)


@router.get("")
async def list_batches(
    request: Request,
    caller: Caller,
    service: Service,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """The project's batches, newest first."""
    only_query(request, {"after", "limit"})
    return await service.list(caller, after=after, limit=limit)


@router.get("/{batch_id}", dependencies=[NO_QUERY])
async def retrieve(batch_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """A batch as it is now."""
    return await service.retrieve(caller, batch_id)


@router.post("/{batch_id}/cancel", dependencies=[NO_QUERY, LET_END])
async def cancel(batch_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """Has a batch cancelled."""
    return await service.cancel(caller, batch_id)
