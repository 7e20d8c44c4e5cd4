"""``POST /v1/completions``"""

from functools import partial
from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import aside
from cloister_common.direct import DirectRoute
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.chat.prompts import prompt_size, tell_usage
from cloister_gateway.chat.stream import CompletionResponse, EventStreamResponse
from cloister_gateway.completions.schemas import CompletionRequest
from cloister_gateway.completions.shapes import chunks, completion
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ModelUpstream
from cloister_gateway.models.counting import count_prompt
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.upstream import TEXT
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


@router.post("/v1/completions")
async def create(
    request: Request,
    body: CompletionRequest,
    caller: Caller,
    catalog: Models,
    upstream: Upstream,
    metering: Meters,
    streaming: Streaming,
) -> Response:
    """How a text goes on, streamed or whole."""
    only_query(request, ())
    caller.keep_fence("send a whole prompt of its own, as completions do; use /v1/responses")
    size = len(await request.body())
    await aside(size, body.check)
    model = catalog.served(body.model, caller.tenant)
    # Asked for here, where an error of Redis is still answered as one; the call finds it in the cache.
    await upstream.cache_salt(caller.tenant)
    upstream_body = {"temperature": model.temperature, "top_p": model.top_p}
    upstream_body |= await aside(size, body.upstream_body)
    most = min(body.most_tokens, model.context_tokens) * body.answers
    prompt = prompt_size(model, upstream_body, size, answers=body.answers, count=partial(count_prompt, upstream))
    metered = metering.around(caller, body.model, "completions", most_output_tokens=most, prompt=prompt)
    attempts = Attempts(served=metered.used.served)
    if body.stream:
        wants_usage = tell_usage(upstream_body)
        events = upstream.stream_events(body.model, upstream_body, tenant=caller.tenant, path=TEXT, attempts=attempts)
        return EventStreamResponse(events, partial(chunks, model=model, usage=wants_usage), metered, streaming)
    work = partial(
        upstream.complete_chat, body.model, upstream_body, tenant=caller.tenant, path=TEXT, attempts=attempts
    )
    return CompletionResponse(work, partial(completion, model=model), metered, streaming)
