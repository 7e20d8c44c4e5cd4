"""``/v1/models``: the chat models of the catalog and what the embedder serves."""

import asyncio
from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.wire.models import model_not_found
from fastapi import APIRouter, Depends, Request

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.upstream import ModelUpstream
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

log = get_logger(__name__)
router = APIRouter(prefix="/v1/models")

Caller = Annotated[Principal, Depends(require("models"))]
Models = Annotated[Catalog, Depends(provided(Catalog))]
Upstream = Annotated[ModelUpstream, Depends(provided(ModelUpstream))]
Embedder = Annotated[EmbedderClient, Depends(provided(EmbedderClient))]
Body = dict[str, Any]

_EMBEDDER_SECONDS = 2.0
"""The chat models do not wait longer than this for the embedder's."""


@router.get("")
async def list_models(request: Request, caller: Caller, catalog: Models, llm: Upstream, embedder: Embedder) -> Body:
    """All models; those of the embedder are left out while it does not answer."""
    only_query(request, ())
    chat, embedding = await asyncio.gather(_chat_models(catalog, llm, caller), _embedder_models(embedder, caller))
    return {"object": "list", "data": [*chat, *embedding]}


@router.get("/{model:path}")
async def retrieve_model(
    model: str, request: Request, caller: Caller, catalog: Models, llm: Upstream, embedder: Embedder
) -> Body:
    """One model."""
    only_query(request, ())
    found = catalog.find(model)
    if found is not None and found.is_for(caller.tenant):
        return await _chat_model(found, llm)
    for other in await _embedder_models(embedder, caller):
        if other["id"] == model:
            return other
    raise model_not_found(model)


async def _chat_models(catalog: Catalog, llm: ModelUpstream, caller: Principal) -> list[Body]:
    return await asyncio.gather(*(_chat_model(model, llm) for model in catalog if model.is_for(caller.tenant)))


async def _chat_model(model: ChatModel, llm: ModelUpstream) -> Body:
    details = {
        "kind": "chat",
        "context_tokens": model.context_tokens,
        "capabilities": sorted(model.capabilities),
        "images": model.images,
        "ready": await llm.is_ready(model.name),
        "mode": model.mode,
    }
    shown = _model(model.name, model.created, details)
    # As OpenAI's, and vLLM's, models show that they are fine-tuned.
    return shown if model.base is None else {**shown, "root": model.base, "parent": model.base}


async def _embedder_models(embedder: EmbedderClient, caller: Principal) -> list[Body]:
    try:
        listed = await embedder.models(tenant=caller.tenant, within_seconds=_EMBEDDER_SECONDS)
    except CloisterError as error:
        log.warning("embedder_models_unknown", error=type(error).__name__)
        return []
    return [_model(entry["id"], entry["created"], entry.get("cloister") or {}) for entry in listed]


def _model(name: str, created: int, details: Body) -> Body:
    """OpenAI's model object; ``cloister`` is ours. ``created`` is when it began to be served (Unix seconds)."""
    return {"id": name, "object": "model", "created": created, "owned_by": "cloister", "cloister": details}
