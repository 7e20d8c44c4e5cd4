"""``/v1/vector_stores`` in OpenAI's shape; files and batches in them are in the routers beside this one."""

from typing import Annotated, Any

from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query
from openai.types import VectorStoreDeleted

from cloister_retriever.access import ContextOfApp, Tenant, room
from cloister_retriever.pages import ListQuery, wire_page
from cloister_retriever.vector_stores.schemas import CreateStore, UpdateStore

__all__ = ["router"]

router = APIRouter(prefix="/v1/vector_stores", route_class=JsonRoute)


@router.post("", dependencies=[Depends(room)])
async def create_store(body: CreateStore, tenant: Tenant, context: ContextOfApp) -> dict[str, Any]:
    return await context.vector_stores.create(tenant, body)


@router.get("")
async def list_stores(tenant: Tenant, context: ContextOfApp, query: Annotated[ListQuery, Query()]) -> dict[str, Any]:
    stores, has_more = await context.vector_stores.list(tenant, query)
    return wire_page(stores, has_more=has_more)


@router.get("/{store_id}")
async def retrieve_store(store_id: str, tenant: Tenant, context: ContextOfApp) -> dict[str, Any]:
    opened = await context.vector_stores.get(tenant, store_id)
    return await context.vector_stores.wire(tenant, opened)


@router.post("/{store_id}")
async def update_store(store_id: str, body: UpdateStore, tenant: Tenant, context: ContextOfApp) -> dict[str, Any]:
    return await context.vector_stores.update(tenant, store_id, body)


@router.delete("/{store_id}")
async def delete_store(store_id: str, tenant: Tenant, context: ContextOfApp) -> dict[str, Any]:
    await context.vector_stores.delete(tenant, store_id)
    return VectorStoreDeleted(id=store_id, deleted=True, object="vector_store.deleted").model_dump(mode="json")
