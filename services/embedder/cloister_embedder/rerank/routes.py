"""The HTTP side of reranking."""

from typing import Any

from cloister_common.bodies import read_body
from cloister_common.disconnect import while_connected
from cloister_common.wire.embeddings import is_bulk
from cloister_common.wire.rerank import parse_rerank_request
from fastapi import APIRouter, Request

from cloister_embedder.context import Context
from cloister_embedder.rerank.service import rerank

__all__ = ["router"]

router = APIRouter()


@router.post("/v1/rerank", response_model=None)
async def create_rerank(request: Request) -> dict[str, Any]:
    """Documents ordered by their relevance to a query."""
    context: Context = request.app.state.context
    bulk = is_bulk(request.headers)
    body = parse_rerank_request(await read_body(request))
    return await while_connected(request, rerank(context, body, bulk=bulk))
