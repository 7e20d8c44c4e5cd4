"""``/cloister/v1/vector_stores/{id}/reembed``: begin, look, switch, go back, give up."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends

from cloister_retriever.access import Tenant, room
from cloister_retriever.pages import Wire
from cloister_retriever.reembedding.schemas import Reembed
from cloister_retriever.reembedding.service import ReembeddingService

__all__ = ["router"]

router = APIRouter(prefix="/cloister/v1/vector_stores/{store_id}/reembed", route_class=JsonRoute)

Service = Annotated[ReembeddingService, Depends(provided(ReembeddingService))]


@router.post("", dependencies=[Depends(room)])
async def begin(store_id: str, body: Reembed, tenant: Tenant, service: Service) -> Wire:
    return (await service.begin(tenant, store_id, body)).model_dump(mode="json")


@router.get("")
async def look(store_id: str, tenant: Tenant, service: Service) -> Wire:
    return (await service.look(tenant, store_id)).model_dump(mode="json")


@router.post("/switch")
async def switch(store_id: str, tenant: Tenant, service: Service) -> Wire:
    return (await service.switch(tenant, store_id, back=False)).model_dump(mode="json")


@router.post("/back")
async def back(store_id: str, tenant: Tenant, service: Service) -> Wire:
    return (await service.switch(tenant, store_id, back=True)).model_dump(mode="json")


@router.delete("")
async def give_up(store_id: str, tenant: Tenant, service: Service) -> Wire:
    return (await service.give_up(tenant, store_id)).model_dump(mode="json")
