"""``/v1/files``, ``/v1/uploads`` and ``/v1/vector_stores``, and what is ours of the last: exactly the routes served,
each with the query it knows."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, NamedTuple

from cloister_common.access import provided
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import NotFound
from cloister_common.payer import Payer
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.documents.forward import forward
from cloister_gateway.documents.search import answered, search_of
from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import Principal
from cloister_gateway.limits import Limits
from cloister_gateway.models.rewriting import QueryRewriter
from cloister_gateway.settings import ResponsesSettings
from cloister_gateway.usage import Metering
from cloister_gateway.wire.query import known_pairs, only_query

__all__ = ["router"]

router = APIRouter()

_IDS = {
    "file_id": ("file", re.compile(r"file-[0-9A-Za-z]{1,64}")),
    "upload_id": ("upload", re.compile(r"upload_[0-9A-Za-z]{1,64}")),
    "vector_store_id": ("vector store", re.compile(r"vs_[0-9A-Za-z]{1,64}")),
    "batch_id": ("file batch", re.compile(r"vsfb_[0-9A-Za-z]{1,64}")),
    "number": ("picture", re.compile(r"[0-9]{1,6}")),
}
"""What an id must look like to be sent on. Anything else cannot exist: the same 404 as for an unknown one."""

_PAGE = ("after", "before", "limit", "order")


class _Route(NamedTuple):
    method: str
    path: str
    query: tuple[str, ...] = ()


_FILES = "/v1/files"
_UPLOADS = "/v1/uploads"
_UPLOAD = f"{_UPLOADS}/{{upload_id}}"
_STORES = "/v1/vector_stores"
_STORE = f"{_STORES}/{{vector_store_id}}"
_ATTACHED = f"{_STORE}/files/{{file_id}}"
_BATCH = f"{_STORE}/file_batches/{{batch_id}}"
_REEMBED = f"/cloister{_STORE}/reembed"

_ROUTES = {
    "files": (
        _Route("POST", _FILES),
        _Route("GET", _FILES, ("after", "limit", "order", "purpose")),
        _Route("GET", f"{_FILES}/{{file_id}}"),
        _Route("DELETE", f"{_FILES}/{{file_id}}"),
        _Route("GET", f"{_FILES}/{{file_id}}/content"),
        _Route("POST", _UPLOADS),
        _Route("POST", f"{_UPLOAD}/parts"),
        _Route("POST", f"{_UPLOAD}/complete"),
        _Route("POST", f"{_UPLOAD}/cancel"),
    ),
    "vector_stores": (
        _Route("POST", _STORES),
        _Route("GET", _STORES, _PAGE),
        _Route("GET", _STORE),
        _Route("POST", _STORE),
        _Route("DELETE", _STORE),
        _Route("POST", f"{_STORE}/files"),
        _Route("GET", f"{_STORE}/files", (*_PAGE, "filter")),
        _Route("GET", _ATTACHED),
        _Route("POST", _ATTACHED),
        _Route("DELETE", _ATTACHED),
        _Route("GET", f"{_ATTACHED}/content"),
        _Route("GET", f"{_ATTACHED}/images/{{number}}"),
        _Route("POST", f"{_STORE}/file_batches"),
        _Route("GET", _BATCH),
        _Route("POST", f"{_BATCH}/cancel"),
        _Route("GET", f"{_BATCH}/files", (*_PAGE, "filter")),
        _Route("POST", _REEMBED),
        _Route("GET", _REEMBED),
        _Route("DELETE", _REEMBED),
        _Route("POST", f"{_REEMBED}/switch"),
        _Route("POST", f"{_REEMBED}/back"),
    ),
}
"""The routes by the scope they need."""


def _handler(route: _Route, scope: str) -> Callable[..., Awaitable[Response]]:
    async def handle(
        request: Request,
        caller: Annotated[Principal, Depends(require(scope))],
        retriever: Annotated[RetrieverClient, Depends(provided(RetrieverClient))],
        limits: Annotated[Limits, Depends(provided(Limits))],
        streaming: Annotated[ResponsesSettings, Depends(provided(ResponsesSettings))],
    ) -> Response:
        only_query(request, route.query)
        path = route.path.format(**_checked_ids(request))
        query = known_pairs(request, route.query)
        seconds = streaming.send_seconds
        payer = None
        if scope == "vector_stores" and route.method == "POST":
            payer = Payer(key=caller.credential.id, user=caller.payer, asks=limits.are_any)
        return await forward(
            retriever,
            request,
            path,
            query,
            tenant=caller.tenant,
            caller=caller.reader,
            payer=payer,
            send_seconds=seconds,
        )

    return handle


@router.post(f"{_STORE}/search", response_model=None, name=f"{_STORE}/search")
async def search(
    request: Request,
    caller: Annotated[Principal, Depends(require("vector_stores"))],
    retriever: Annotated[RetrieverClient, Depends(provided(RetrieverClient))],
    rewriter: Annotated[QueryRewriter, Depends(provided(QueryRewriter))],
    metering: Annotated[Metering, Depends(provided(Metering))],
    streaming: Annotated[ResponsesSettings, Depends(provided(ResponsesSettings))],
) -> Response:
    only_query(request, ())
    path = f"{_STORE}/search".format(**_checked_ids(request))
    asked = await search_of(await request.body(), caller, rewriter, metering)
    return await forward(
        retriever,
        request,
        path,
        (),
        tenant=caller.tenant,
        caller=caller.reader,
        send_seconds=streaming.send_seconds,
        body=asked.body,
        change=None if asked.rewritten is None else partial(answered, asked),
    )


def _checked_ids(request: Request) -> dict[str, str]:
    for name, value in request.path_params.items():
        what, shape = _IDS[name]
        if not shape.fullmatch(value):
            raise NotFound(f"No such {what}.", param=name)
    return dict(request.path_params)


for _scope, _routes in _ROUTES.items():
    for _route in _routes:
        router.add_api_route(
            _route.path, _handler(_route, _scope), methods=[_route.method], response_model=None, name=_route.path
        )
