"""``POST /v1/chat/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.bodies import JsonRoute
from cloister_common.errors import Forbidden
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.identity import Principal, require
from cloister_gateway.models import ModelUpstream
from cloister_gateway.query import only_query

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute)

Caller = Annotated[Principal, Depends(require("chat"))]


@router.post("/v1/chat/completions")
async def create(request: Request, body: ChatRequest, caller: Caller) -> Response:
    """A chat completion over messages that the caller wrote, streamed or whole."""
    only_query(request, ())
    if caller.server_state_only:
        raise Forbidden(
            "This API key keeps its history on the server and cannot send one. Use /v1/responses.",
            code="server_state_only",
        )
    body.check()
    upstream: ModelUpstream = request.app.state.context.llm
    upstream.settings_of(body.model)
    upstream_body = body.upstream_body()
    if body.stream:
        return EventStreamResponse(upstream.stream_events(body.model, upstream_body, tenant=caller.tenant))
    return CompletionResponse(partial(upstream.complete_chat, body.model, upstream_body, tenant=caller.tenant))
