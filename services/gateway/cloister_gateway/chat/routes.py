"""``POST /v1/chat/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.bodies import JsonRoute
from cloister_common.errors import Forbidden
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.context import Context
from cloister_gateway.identity import Principal, require
from cloister_gateway.wire.query import only_query

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
    context: Context = request.app.state.context
    upstream, send_seconds = context.llm, context.settings.responses.send_seconds
    upstream.settings_of(body.model)
    # Asked for here, where an error of Redis is still answered as one; the call finds it in the cache.
    await upstream.cache_salt(caller.tenant)
    upstream_body = body.upstream_body()
    if body.stream:
        events = upstream.stream_events(body.model, upstream_body, tenant=caller.tenant)
        return EventStreamResponse(events, send_seconds=send_seconds)
    work = partial(upstream.complete_chat, body.model, upstream_body, tenant=caller.tenant)
    return CompletionResponse(work, send_seconds=send_seconds)
