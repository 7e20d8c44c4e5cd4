"""The HTTP side of embedding."""

from cloister_common.bodies import read_body
from cloister_common.disconnect import while_connected
from cloister_common.wire.embeddings import is_bulk, parse_embedding_request
from fastapi import APIRouter, Request
from starlette.responses import Response

from cloister_embedder.context import Context
from cloister_embedder.embeddings.service import embed

__all__ = ["router"]

router = APIRouter()


@router.post("/v1/embeddings")
async def create_embeddings(request: Request) -> Response:
    """Vectors for one text or up to 2,048, in OpenAI's schema."""
    context: Context = request.app.state.context
    bulk = is_bulk(request.headers)
    body = parse_embedding_request(await read_body(request))
    answer = await while_connected(request, embed(context, body, bulk=bulk))
    return Response(answer, media_type="application/json")
