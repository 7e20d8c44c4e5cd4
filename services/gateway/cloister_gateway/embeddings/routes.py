"""``/v1/embeddings`` and ``/v1/rerank``: checked against the shared schema, then passed on as they came.

But for token ids, which go on as the texts that they stand for.
"""

import asyncio
from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import read_body
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.direct import DirectRoute
from cloister_common.wire.embeddings import MAX_TEXTS, EmbeddingRequest, parse_embedding_request
from cloister_common.wire.rerank import RerankRequest, parse_rerank_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.embeddings.vocabulary import MOST_TOKENS, holds_tokens, with_texts
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.usage import Metering
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

_MOST_NUMBERS = MOST_TOKENS + 2 * MAX_TEXTS
"""JSON values of a body of token ids: besides the ids its lists, and some."""

router = APIRouter(prefix="/v1", route_class=DirectRoute)

Embedder = Annotated[EmbedderClient, Depends(provided(EmbedderClient))]
Meters = Annotated[Metering, Depends(provided(Metering))]


@router.post("/embeddings")
async def embeddings(
    request: Request, caller: Annotated[Principal, Depends(require("embeddings"))], embedder: Embedder, metering: Meters
) -> Response:
    """Vectors of texts, or of token ids, in OpenAI's schema."""
    only_query(request, (), body=EmbeddingRequest)
    body = await read_body(request, most_numbers=_MOST_NUMBERS)
    asked = parse_embedding_request(body)
    if holds_tokens(asked.input):
        # In a thread also where it is small: the first call reads the vocabulary.
        asked = asked.model_copy(update={"input": await asyncio.to_thread(with_texts, asked.input)})
        body = asked.model_dump_json(exclude_none=True).encode()
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
    only_query(request, (), body=RerankRequest)
    body = await read_body(request)
    asked = parse_rerank_request(body)
    async with metering.around(caller, asked.model, "rerank") as metered:
        answer = await embedder.pass_rerank(body, tenant=caller.tenant)
        metered.used.prompt = answer.prompt_tokens
    return Response(answer.content, media_type="application/json")
