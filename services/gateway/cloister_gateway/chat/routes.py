"""``POST /v1/chat/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.access import provided
from cloister_common.direct import DirectRoute
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.prompts import tell_usage
from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.service import ChatService
from cloister_gateway.chat.shapes import ChunkShapes
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import ModelUpstream
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(route_class=DirectRoute)

Caller = Annotated[Principal, Depends(require("chat"))]
Service = Annotated[ChatService, Depends(provided(ChatService))]
Upstream = Annotated[ModelUpstream, Depends(provided(ModelUpstream))]
Streaming = Annotated[ResponsesSettings, Depends(provided(ResponsesSettings))]


@router.post("/v1/chat/completions")
async def create(
    request: Request, body: ChatRequest, caller: Caller, service: Service, upstream: Upstream, streaming: Streaming
) -> Response:
    """A chat completion over messages that the caller wrote, streamed or whole."""
    only_query(request, ())
    call = await service.prepare(caller, body, len(await request.body()))
    if body.stream:
        wants_usage = tell_usage(call.body)
        events = upstream.stream_events(
            body.model,
            call.body,
            tenant=caller.tenant,
            affinity=body.prompt_cache_key,
            attempts=call.attempts,
            work=call.work,
        )
        shapes = ChunkShapes(call.model, usage=wants_usage, ours=not wants_usage, tier=call.tier)
        return EventStreamResponse(events, shapes.block, call.metered, streaming)
    return CompletionResponse(partial(service.ask, call), partial(service.shaped, call), call.metered, streaming)
