"""``GET /v1/models``: what is loaded, in OpenAI's schema with an addition that ingestion and search plan with."""

from typing import Any

from cloister_common.wire.models import model_not_found
from fastapi import APIRouter, Request

from cloister_embedder.context import Context

__all__ = ["router"]

router = APIRouter()


@router.get("/v1/models", response_model=None)
async def list_models(request: Request) -> dict[str, Any]:
    """The models that serve now. ``cloister`` has kind, dimensions and the longest input in tokens."""
    context: Context = request.app.state.context
    return {"object": "list", "data": context.registry.listing()}


@router.get("/v1/models/{name:path}", response_model=None)
async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
    """One of them."""
    context: Context = request.app.state.context
    for model in context.registry.listing():
        if model["id"] == name:
            return model
    raise model_not_found(name)
