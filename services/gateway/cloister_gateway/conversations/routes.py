"""``/v1/conversations`` and their items."""

from typing import Annotated, Any, Literal

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query, Request

from cloister_gateway.conversations.schemas import CreateConversation, CreateItems, UpdateConversation
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.lists import page
from cloister_gateway.wire.query import NO_QUERY, only_query, wanted

__all__ = ["router"]

router = APIRouter(prefix="/v1/conversations", route_class=JsonRoute)

_INCLUDE = frozenset({"include", "include[]"})

Caller = Annotated[Principal, Depends(require("conversations"))]
Service = Annotated[ConversationService, Depends(provided(ConversationService))]


@router.post("", dependencies=[NO_QUERY, LET_END])
async def create(caller: Caller, service: Service, body: CreateConversation | None = None) -> dict[str, Any]:
    """Makes a conversation."""
    body = body or CreateConversation()
    return await service.create(caller, body.metadata or {}, body.items or [])


@router.get("/{conversation_id}", dependencies=[NO_QUERY])
async def retrieve(conversation_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """A conversation's own fields."""
    return await service.retrieve(caller, conversation_id)


@router.post("/{conversation_id}", dependencies=[NO_QUERY, LET_END])
async def update(conversation_id: str, body: UpdateConversation, caller: Caller, service: Service) -> dict[str, Any]:
    """Replaces a conversation's metadata."""
    return await service.update(caller, conversation_id, body.metadata or {})


@router.delete("/{conversation_id}", dependencies=[NO_QUERY, LET_END])
async def delete(conversation_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """Deletes a conversation with all its items and responses."""
    await service.delete(caller, conversation_id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post("/{conversation_id}/items", dependencies=[LET_END])
async def create_items(
    conversation_id: str, body: CreateItems, caller: Caller, service: Service, request: Request
) -> dict[str, Any]:
    """Appends items."""
    only_query(request, _INCLUDE)
    wanted(request)
    items = await service.add_items(caller, conversation_id, body.items)
    return page(items, limit=len(items), order="asc", after=None)


@router.get("/{conversation_id}/items")
async def list_items(
    conversation_id: str,
    caller: Caller,
    service: Service,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """A page of items."""
    only_query(request, {"limit", "order", "after", *_INCLUDE})
    return await service.items(caller, conversation_id, limit=limit, order=order, after=after, wanted=wanted(request))


@router.get("/{conversation_id}/items/{item_id}")
async def retrieve_item(
    conversation_id: str, item_id: str, caller: Caller, service: Service, request: Request
) -> dict[str, Any]:
    """One item."""
    only_query(request, _INCLUDE)
    return await service.item(caller, conversation_id, item_id, wanted=wanted(request))


@router.delete("/{conversation_id}/items/{item_id}", dependencies=[NO_QUERY, LET_END])
async def delete_item(conversation_id: str, item_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """Deletes one item; the conversation as it is then."""
    return await service.delete_item(caller, conversation_id, item_id)
