"""``/v1/embeddings`` and ``/v1/rerank``: checked against the shared schema, then passed on as they came.

But for token ids, which go on as the texts that they stand for.
"""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import aside, read_body
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.direct import DirectRoute
from cloister_common.wire.embeddings import EmbeddingRequest, parse_embedding_request
from cloister_common.wire.rerank import RerankRequest, parse_rerank_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.embeddings.service import MOST_NUMBERS, EmbeddingService
from cloister_gateway.embeddings.sizes import prompt_size
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.usage import Metering
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(prefix="/v1", route_class=DirectRoute)

Service = Annotated[EmbeddingService, Depends(provided(EmbeddingService))]
Embedder = Annotated[EmbedderClient, Depends(provided(EmbedderClient))]
Meters = Annotated[Metering, Depends(provided(Metering))]


@router.post("/embeddings")
async def embeddings(
    request: Request, caller: Annotated[Principal, Depends(require("embeddings"))], service: Service
) -> Response:
    """Vectors of texts, of token ids, or of images, in OpenAI's schema."""
    only_query(request, (), body=EmbeddingRequest)
    body = await read_body(request, most_numbers=MOST_NUMBERS)
    asked = parse_embedding_request(body)
    answer = await service.embed(caller, asked, body)
    return Response(answer.content, media_type="application/json", headers=dict(answer.headers))


@router.post("/rerank")
async def rerank(
    request: Request, caller: Annotated[Principal, Depends(require("rerank"))], embedder: Embedder, metering: Meters
) -> Response:
    """Documents by their relevance to a query."""
    only_query(request, (), body=RerankRequest)
    body = await read_body(request)
    asked = parse_rerank_request(body)
    pairs = await aside(len(body), prompt_size, asked.documents, asked.query)
    async with metering.around(caller, asked.model, "rerank", prompt=pairs) as metered:
        metered.used.silent = True
        answer = await embedder.pass_rerank(body, tenant=caller.tenant)
        metered.used.silent, metered.used.prompt = False, answer.prompt_tokens
    return Response(answer.content, media_type="application/json", headers=dict(metered.headers))
