"""``/v1/embeddings`` and ``/v1/rerank``: checked against the shared schema, then passed on as they came."""

from typing import Annotated

from cloister_common.bodies import read_body
from cloister_common.ids import new_id
from cloister_common.wire.embeddings import parse_embedding_request
from cloister_common.wire.rerank import parse_rerank_request
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.context import Context
from cloister_gateway.identity import Principal, require
from cloister_gateway.usage import Generation, Kind, Metered
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(prefix="/v1")


@router.post("/embeddings")
async def embeddings(request: Request, caller: Annotated[Principal, Depends(require("embeddings"))]) -> Response:
    """Vectors of texts, in OpenAI's schema."""
    only_query(request, ())
    body = await read_body(request)
    asked = parse_embedding_request(body)
    asked.texts()
    context: Context = request.app.state.context
    async with _metered(context, caller, asked.model, "embeddings") as metered:
        answer = await context.embedder.pass_embeddings(body, tenant=caller.tenant)
        metered.used.prompt = answer.prompt_tokens
    return Response(answer.content, media_type="application/json")


@router.post("/rerank")
async def rerank(request: Request, caller: Annotated[Principal, Depends(require("rerank"))]) -> Response:
    """Documents by their relevance to a query."""
    only_query(request, ())
    body = await read_body(request)
    asked = parse_rerank_request(body)
    context: Context = request.app.state.context
    async with _metered(context, caller, asked.model, "rerank") as metered:
        answer = await context.embedder.pass_rerank(body, tenant=caller.tenant)
        metered.used.prompt = answer.prompt_tokens
    return Response(answer.content, media_type="application/json")


def _metered(context: Context, caller: Principal, model: str, kind: Kind) -> Metered:
    generation = Generation(new_id("gen_"), caller.tenant, caller.key_id, model, kind)
    return Metered(context.meter, generation, most_output_tokens=0)
