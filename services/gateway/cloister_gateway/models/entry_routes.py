"""``/cloister/v1/models``: the catalog as operators see and change it, with an administration key."""

import asyncio
from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.wire.models import model_not_found
from fastapi import APIRouter, Depends

from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.registry import Registry
from cloister_gateway.models.schemas import ModelEntry, entry_body
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.wire.query import DECLARED_QUERY

__all__ = ["router"]

router = APIRouter(
    prefix="/cloister/v1/models", dependencies=[Depends(require(ADMIN_SCOPE)), DECLARED_QUERY], route_class=JsonRoute
)

Models = Annotated[Catalog, Depends(provided(Catalog))]
Entered = Annotated[Registry, Depends(provided(Registry))]
Upstream = Annotated[ModelUpstream, Depends(provided(ModelUpstream))]
Body = dict[str, Any]


@router.get("")
async def list_entries(catalog: Models, registry: Entered, llm: Upstream) -> Body:
    """All models of both origins, for whatever project."""
    bodies = await asyncio.gather(*(_body(model, catalog, llm) for model in registry.models()))
    return {"object": "list", "data": bodies, "has_more": False}


@router.post("", dependencies=[LET_END])
async def enter(body: ModelEntry, catalog: Models, registry: Entered, llm: Upstream) -> Body:
    """Enters a model, or replaces the one that was entered under its name."""
    return await _body(await registry.enter(body.name, body.fields()), catalog, llm)


@router.get("/{name:path}")
async def retrieve_entry(name: str, catalog: Models, registry: Entered, llm: Upstream) -> Body:
    """One model: the one that is in force."""
    for model in registry.models():
        if model.name == name:
            return await _body(model, catalog, llm)
    raise model_not_found(name)


@router.delete("/{name:path}", dependencies=[LET_END])
async def remove(name: str, registry: Entered) -> Body:
    """Takes a model out that was entered here."""
    await registry.remove(name)
    return {"object": "cloister.model.deleted", "name": name, "deleted": True}


async def _body(model: ChatModel, catalog: Catalog, llm: ModelUpstream) -> Body:
    in_force = catalog.find(model.name) == model
    return entry_body(model, in_force=in_force, ready=in_force and await llm.is_ready(model.name))
