"""The HTTP side of reranking."""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import read_body
from cloister_common.disconnect import while_connected
from cloister_common.wire.embeddings import is_bulk
from cloister_common.wire.rerank import parse_rerank_request
from fastapi import APIRouter, Depends, Request

from cloister_embedder.rerank.service import RerankService

__all__ = ["router"]

router = APIRouter()


@router.post("/v1/rerank", response_model=None)
async def create_rerank(
    request: Request, service: Annotated[RerankService, Depends(provided(RerankService))]
) -> dict[str, Any]:
    """Documents ordered by their relevance to a query."""
    bulk = is_bulk(request.headers)
    body = parse_rerank_request(await read_body(request))
    return await while_connected(request, service.rerank(body, bulk=bulk))
