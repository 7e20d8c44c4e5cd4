"""The HTTP side of embedding."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import read_body
from cloister_common.disconnect import while_connected
from cloister_common.wire.embeddings import is_bulk, parse_embedding_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_embedder.embeddings.service import EmbeddingService

__all__ = ["router"]

router = APIRouter()


@router.post("/v1/embeddings")
async def create_embeddings(
    request: Request, service: Annotated[EmbeddingService, Depends(provided(EmbeddingService))]
) -> Response:
    """Vectors for one text or up to 2,048, in OpenAI's schema."""
    bulk = is_bulk(request.headers)
    body = parse_embedding_request(await read_body(request))
    answer = await while_connected(request, service.embed(body, bulk=bulk))
    return Response(answer, media_type="application/json")
