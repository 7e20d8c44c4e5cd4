"""``/v1/embeddings`` and ``/v1/rerank``: checked against the shared schema, then passed on as they came."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import read_body
from cloister_common.clients.call import AWAY_SECONDS, call
from cloister_common.wire.embeddings import parse_embedding_request
from cloister_common.wire.rerank import parse_rerank_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.inside import Embedder
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(prefix="/v1")

EmbedderAsked = Annotated[Embedder, Depends(provided(Embedder))]


@router.post("/embeddings")
async def embeddings(
    request: Request, caller: Annotated[Principal, Depends(require("embeddings"))], embedder: EmbedderAsked
) -> Response:
    """Vectors of texts, in OpenAI's schema."""
    only_query(request, ())
    body = await read_body(request)
    parse_embedding_request(body).texts()
    return await _forward(embedder, request, caller, body)


@router.post("/rerank")
async def rerank(
    request: Request, caller: Annotated[Principal, Depends(require("rerank"))], embedder: EmbedderAsked
) -> Response:
    """Documents by their relevance to a query."""
    only_query(request, ())
    body = await read_body(request)
    parse_rerank_request(body)
    return await _forward(embedder, request, caller, body)


async def _forward(embedder: Embedder, request: Request, caller: Principal, body: bytes) -> Response:
    response = await call(
        embedder.client,
        "embedder",
        "POST",
        request.url.path,
        headers=embedder.headers(caller.tenant) | {"content-type": "application/json"},
        content=body,
        deadline_seconds=embedder.timeout_seconds,
        away_seconds=AWAY_SECONDS,
    )
    return Response(response.content, media_type="application/json")
