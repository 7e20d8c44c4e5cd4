"""Hands one request to the retriever and its answer back, both as streams: an upload of 512 MB never lies here.

Only what is on the lists below passes: no header, path or query of a caller reaches the inside unlooked at.
"""

from collections.abc import Sequence

from cloister_common.caller import Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CallerGone
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cloister_gateway.wire.readers import TimedStream

__all__ = ["forward"]

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


async def forward(
    retriever: RetrieverClient,
    request: Request,
    path: str,
    query: Sequence[tuple[str, str]],
    *,
    tenant: str,
    caller: Caller,
    send_seconds: float,
) -> Response:
    """The retriever's answer to ``request``, made at ``path`` for a caller of ``tenant``.

    Args:
        retriever: Its client.
        request: The caller's request; its body has not been read.
        path, query: Where to send it, checked.
        tenant: Whose request it is.
        caller: Who of them asks.
        send_seconds: The longest one piece of the answer may take to go out.

    Raises:
        CallerGone: The caller left in the middle of its body.
        Unavailable: The retriever cannot be reached or does not answer in time.
        UpstreamFailed: It does not know this gateway.
        PayloadTooLarge: The body turned out to be over the limit.
    """
    try:
        answer = await retriever.forward(
            tenant,
            request.method,
            path,
            query=query,
            headers={name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers},
            content=request.stream() if request.method == "POST" else None,
            caller=caller,
        )
    except ClientDisconnect as error:
        raise CallerGone from error
    return TimedStream(
        answer.body(),
        send_seconds=send_seconds,
        close=answer.close,
        status_code=answer.status,
        headers={name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers},
    )
