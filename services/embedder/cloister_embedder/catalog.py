"""``GET /v1/models``: what is loaded, in OpenAI's schema with an addition that ingestion and search plan with."""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.wire.models import model_not_found
from fastapi import APIRouter, Depends

from cloister_embedder.registry import Registry

__all__ = ["router"]

router = APIRouter()

Models = Annotated[Registry, Depends(provided(Registry))]


@router.get("/v1/models", response_model=None)
async def list_models(models: Models) -> dict[str, Any]:
    """The models that serve now. ``cloister`` has kind, dimensions and the longest input in tokens."""
    return {"object": "list", "data": models.listing()}


@router.get("/v1/models/{name:path}", response_model=None)
async def retrieve_model(name: str, models: Models) -> dict[str, Any]:
    """One of them."""
    for model in models.listing():
        if model["id"] == name:
            return model
    raise model_not_found(name)
