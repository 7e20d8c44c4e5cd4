"""``/v1/embeddings`` and ``/v1/rerank``: checked against the shared schema, then passed on as they came."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import read_body
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.direct import DirectRoute
from cloister_common.wire.embeddings import parse_embedding_request
from cloister_common.wire.rerank import parse_rerank_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.usage import Metering
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(prefix="/v1", route_class=DirectRoute)

Embedder = Annotated[EmbedderClient, Depends(provided(EmbedderClient))]
Meters = Annotated[Metering, Depends(provided(Metering))]


@router.post("/embeddings")
async def embeddings(
    request: Request, caller: Annotated[Principal, Depends(require("embeddings"))], embedder: Embedder, metering: Meters
) -> Response:
    """Vectors of texts, in OpenAI's schema."""
    only_query(request, ())
    body = await read_body(request)
    asked = parse_embedding_request(body)
    asked.texts()
    async with metering.around(caller, asked.model, "embeddings") as metered:
        answer = await embedder.pass_embeddings(body, tenant=caller.tenant)
        metered.used.prompt = answer.prompt_tokens
    return Response(answer.content, media_type="application/json")


@router.post("/rerank")
async def rerank(
    request: Request, caller: Annotated[Principal, Depends(require("rerank"))], embedder: Embedder, metering: Meters
) -> Response:
    """Documents by their relevance to a query."""
    only_query(request, ())
    body = await read_body(request)
    asked = parse_rerank_request(body)
    async with metering.around(caller, asked.model, "rerank") as metered:
        answer = await embedder.pass_rerank(body, tenant=caller.tenant)
        metered.used.prompt = answer.prompt_tokens
    return Response(answer.content, media_type="application/json")
