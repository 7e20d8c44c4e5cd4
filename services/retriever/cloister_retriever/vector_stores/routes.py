"""``/v1/vector_stores`` in OpenAI's shape; files and batches in them are in the routers beside this one."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query
from openai.types import VectorStoreDeleted

from cloister_retriever.access import Paid, Tenant, room
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.pages import ListQuery, Wire, wire_page
from cloister_retriever.vector_stores.schemas import CreateStore, UpdateStore
from cloister_retriever.vector_stores.service import VectorStoreService

__all__ = ["router"]

router = APIRouter(prefix="/v1/vector_stores", route_class=JsonRoute)

Stores = Annotated[VectorStoreService, Depends(provided(VectorStoreService))]


@router.post("", dependencies=[Depends(room)])
async def create_store(body: CreateStore, tenant: Tenant, sight: Sighted, payer: Paid, stores: Stores) -> Wire:
    await sight.see_all(body.file_ids or [], param="file_id")
    return (await stores.create(tenant, body, payer)).wire()


@router.get("")
async def list_stores(tenant: Tenant, stores: Stores, query: Annotated[ListQuery, Query()]) -> Wire:
    page, has_more = await stores.list(tenant, query)
    return wire_page([store.wire() for store in page], has_more=has_more)


@router.get("/{store_id}")
async def retrieve_store(store_id: str, tenant: Tenant, stores: Stores) -> Wire:
    opened = await stores.get(tenant, store_id)
    return (await stores.describe(tenant, opened)).wire()


@router.post("/{store_id}")
async def update_store(store_id: str, body: UpdateStore, tenant: Tenant, stores: Stores) -> Wire:
    return (await stores.update(tenant, store_id, body)).wire()


@router.delete("/{store_id}")
async def delete_store(store_id: str, tenant: Tenant, stores: Stores) -> Wire:
    await stores.delete(tenant, store_id)
    return VectorStoreDeleted(id=store_id, deleted=True, object="vector_store.deleted").model_dump(mode="json")
