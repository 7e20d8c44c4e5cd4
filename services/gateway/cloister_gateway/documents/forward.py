"""Hands one request to the retriever and its answer back, both as streams: an upload of 512 MB never lies here.

Only what is on the lists below passes: no header, path or query of a caller reaches the inside unlooked at.
"""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
from cloister_common.errors import CallerGone, Unavailable, UpstreamFailed
from cloister_common.logs import get_logger
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cloister_gateway.wire.inside import Retriever
from cloister_gateway.wire.readers import TimedStream

__all__ = ["forward"]

log = get_logger(__name__)

_REQUEST_HEADERS = ("content-type", "content-length", "range")
_RESPONSE_HEADERS = (
    "accept-ranges",
    "content-disposition",
    "content-length",
    "content-range",
    "content-type",
    "retry-after",
    "x-content-type-options",
)
_RETRY_SECONDS = 5


async def forward(retriever: Retriever, request: Request, path: str, *, tenant: str, send_seconds: float) -> Response:
    """The retriever's answer to ``request``, made for ``tenant`` at ``path``.

    Args:
        retriever: Its client and tokens.
        request: The caller's request; its query and path have been checked, its body has not been read.
        path: Where to send it.
        tenant: Whose request it is.
        send_seconds: The longest one piece of the answer may take to go out.

    Raises:
        CallerGone: The caller left in the middle of its body.
        Unavailable: The retriever cannot be reached or does not answer in time.
        UpstreamFailed: It does not know this gateway.
        PayloadTooLarge: The body turned out to be over the limit.
    """
    headers = {name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers}
    content = request.stream() if request.method == "POST" else None
    outgoing = retriever.client.build_request(
        request.method,
        path,
        params=_params(request),
        headers=headers | retriever.headers(tenant),
        content=content,
    )
    try:
        response = await retriever.client.send(outgoing, stream=True)
    except ClientDisconnect as error:
        raise CallerGone from error
    except httpx.TransportError as error:
        log.warning("retriever_unreachable", error=type(error).__name__)
        raise Unavailable(
            "Files and vector stores cannot be reached now. Try again.", retry_after=_RETRY_SECONDS
        ) from error
    if response.status_code in {401, 403}:
        await response.aclose()
        log.error("retriever_refused_gateway", status=response.status_code)
        raise UpstreamFailed("Files and vector stores do not know this gateway. The operator's log has the reason.")
    return TimedStream(
        _body(response),
        send_seconds=send_seconds,
        close=response.aclose,
        status_code=response.status_code,
        headers={name: response.headers[name] for name in _RESPONSE_HEADERS if name in response.headers},
    )


def _params(request: Request) -> list[tuple[str, Any]]:
    return list(request.query_params.multi_items())


async def _body(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it comes. If the retriever breaks off, so does this: the caller sees a cut, never a short file."""
    async for chunk in response.aiter_raw():
        yield chunk
