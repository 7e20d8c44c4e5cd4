"""``POST /v1/chat/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.bodies import JsonRoute, aside
from cloister_common.ids import new_id
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.context import Context
from cloister_gateway.identity import Principal, require
from cloister_gateway.usage import Generation, Metered
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute)

Caller = Annotated[Principal, Depends(require("chat"))]


@router.post("/v1/chat/completions")
async def create(request: Request, body: ChatRequest, caller: Caller) -> Response:
    """A chat completion over messages that the caller wrote, streamed or whole."""
    only_query(request, ())
    caller.keep_fence("send a history of its own, as chat completions do; use /v1/responses")
    size = int(request.headers.get("content-length", 0))
    await aside(size, body.check)
    context: Context = request.app.state.context
    upstream, send_seconds = context.llm, context.settings.responses.send_seconds
    model = context.catalog.get(body.model)
    # Asked for here, where an error of Redis is still answered as one; the call finds it in the cache.
    await upstream.cache_salt(caller.tenant)
    upstream_body = await aside(size, body.upstream_body)
    # Without a limit of its caller's, vLLM lets an answer go on to the end of the context.
    most = min(body.max_completion_tokens or body.max_tokens or model.context_tokens, model.context_tokens)
    metered = Metered(
        context.meter,
        Generation(new_id("gen_"), caller.tenant, caller.key_id, body.model, "chat"),
        most_output_tokens=most * (body.n or 1),
    )
    if body.stream:
        events = upstream.stream_events(body.model, upstream_body, tenant=caller.tenant)
        return EventStreamResponse(events, metered, send_seconds=send_seconds)
    work = partial(upstream.complete_chat, body.model, upstream_body, tenant=caller.tenant)
    return CompletionResponse(work, metered, send_seconds=send_seconds)
