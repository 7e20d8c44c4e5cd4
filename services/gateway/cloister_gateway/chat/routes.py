"""``POST /v1/chat/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import aside
from cloister_common.direct import DirectRoute
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.shapes import ChunkShapes, completion
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ModelUpstream
from cloister_gateway.models.reasoning import check_effort
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.usage import Metering
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(route_class=DirectRoute)

Caller = Annotated[Principal, Depends(require("chat"))]
Models = Annotated[Catalog, Depends(provided(Catalog))]
Upstream = Annotated[ModelUpstream, Depends(provided(ModelUpstream))]
Meters = Annotated[Metering, Depends(provided(Metering))]
Streaming = Annotated[ResponsesSettings, Depends(provided(ResponsesSettings))]


@router.post("/v1/chat/completions")
async def create(
    request: Request,
    body: ChatRequest,
    caller: Caller,
    catalog: Models,
    upstream: Upstream,
    metering: Meters,
    streaming: Streaming,
) -> Response:
    """A chat completion over messages that the caller wrote, streamed or whole."""
    only_query(request, ())
    caller.keep_fence("send a history of its own, as chat completions do; use /v1/responses")
    size = len(await request.body())
    await aside(size, body.check)
    model = catalog.served(body.model, caller.tenant)
    check_effort(model, body.reasoning_effort, param="reasoning_effort")
    # Asked for here, where an error of Redis is still answered as one; the call finds it in the cache.
    await upstream.cache_salt(caller.tenant)
    upstream_body = {"temperature": model.temperature, "top_p": model.top_p}
    upstream_body |= await aside(size, body.upstream_body)
    # Without a limit of its caller's, vLLM lets an answer go on to the end of the context.
    most = min(body.max_completion_tokens or body.max_tokens or model.context_tokens, model.context_tokens)
    metered = metering.around(caller, body.model, "chat", most_output_tokens=most * (body.n or 1))
    if body.stream:
        events = upstream.stream_events(body.model, upstream_body, tenant=caller.tenant, affinity=body.prompt_cache_key)
        wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStreamResponse(events, ChunkShapes(model, usage=wants_usage).block, metered, streaming)
    work = partial(
        upstream.complete_chat, body.model, upstream_body, tenant=caller.tenant, affinity=body.prompt_cache_key
    )
    return CompletionResponse(work, partial(completion, model=model), metered, streaming)
