"""``/v1/responses`` over HTTP: JSON, or server-sent events while the run goes on."""

from typing import Annotated, Any, Literal

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.direct import DirectRoute
from cloister_common.disconnect import while_connected
from cloister_common.errors import InvalidRequest
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from cloister_gateway.admission import Place
from cloister_gateway.admission.middleware import place_of
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import CompactInput, CountInput, CreateResponse
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.responses.stream import CreatedStream, stream_of
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.storage import KeyedObject
from cloister_gateway.wire.lists import page
from cloister_gateway.wire.query import NO_QUERY, only_query, wanted
from cloister_gateway.wire.strict import LARGEST_NUMBER

__all__ = ["router"]

router = APIRouter(prefix="/v1/responses", route_class=JsonRoute)

Caller = Annotated[Principal, Depends(require("responses"))]

Service = Annotated[ResponseService, Depends(provided(ResponseService))]
Streaming = Annotated[ResponsesSettings, Depends(provided(ResponsesSettings))]


async def create(
    body: CreateResponse,
    caller: Caller,
    service: Service,
    streaming: Streaming,
    request: Request,
    place: Annotated[Place, Depends(place_of)],
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
) -> Response:
    """Creates a response: waits for it, streams it, or (``background``) returns it as queued."""
    if body.background and body.store is False:
        raise InvalidRequest("'background' needs 'store': the answer must be kept to be fetched.", param="store")

    async def make() -> KeyedObject:
        created = await service.create(caller, body, background=bool(body.background), idempotency_key=idempotency_key)
        place.hand_over()
        told.update(created.headers)
        return created.keyed

    told: dict[str, str] = {}
    if body.stream:
        return CreatedStream(make, service, streaming, told)
    keyed = await make()
    if body.background:
        return JSONResponse(await service.body(keyed), headers=told)
    return JSONResponse(await while_connected(request, service.finish(keyed)), headers=told)


router.add_api_route("", create, methods=["POST"], dependencies=[NO_QUERY], route_class_override=DirectRoute)


@router.post("/input_tokens", dependencies=[NO_QUERY])
async def count_input(body: CountInput, caller: Caller, service: Service) -> dict[str, Any]:
    """What a turn would send, by part, and reserve of limits. Nothing is stored, and nothing generated."""
    return await service.count_input(caller, body.as_turn())


@router.post("/compact", dependencies=[NO_QUERY])
async def compact(body: CompactInput, caller: Caller, service: Service, request: Request) -> dict[str, Any]:
    """Sums up what was said: what comes back stands for it in the input of a later turn. Nothing is stored."""
    if body.input is None and body.previous_response_id is None:
        raise InvalidRequest("There is nothing to sum up: send 'input' or 'previous_response_id'.", param="input")
    return await while_connected(request, service.compact(caller, body.as_turn()))


@router.get("/{response_id}")
async def retrieve(
    response_id: str,
    caller: Caller,
    service: Service,
    streaming: Streaming,
    request: Request,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0, le=LARGEST_NUMBER)] = None,
) -> Response:
    """The response as it is now, or its events after a number, from the past into the present."""
    only_query(request, {"stream", "starting_after", "include", "include[]", "include_obfuscation"})
    results = wanted(request).results
    if not stream:
        if starting_after is not None:
            raise InvalidRequest("'starting_after' needs 'stream=true'.", param="starting_after")
        return JSONResponse(await service.retrieve(caller, response_id, results=results))
    keyed = await service.find(caller, response_id)
    return stream_of(service, streaming, keyed, after=-1 if starting_after is None else starting_after)


@router.post("/{response_id}/cancel", dependencies=[NO_QUERY])
async def cancel(response_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """Stops the generation; the response as it ended."""
    return await service.cancel(caller, response_id)


@router.delete("/{response_id}", dependencies=[NO_QUERY])
async def delete(response_id: str, caller: Caller, service: Service) -> dict[str, Any]:
    """Deletes the response and destroys its key."""
    await service.delete(caller, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/{response_id}/input_items")
async def input_items(
    response_id: str,
    caller: Caller,
    service: Service,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    before: str | None = None,
) -> dict[str, Any]:
    """The input items the response was made from."""
    only_query(request, {"limit", "order", "after", "before", "include", "include[]"})
    items = await service.input_items(caller, response_id, images=wanted(request).images)
    return page(items, limit=limit, order=order, after=after, before=before)
