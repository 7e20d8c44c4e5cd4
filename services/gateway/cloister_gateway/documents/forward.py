"""Hands one request to the retriever and its answer back, both as streams: an upload of 512 MB never lies here.

Only what is on the lists below passes: no header, path or query of a caller reaches the inside unlooked at.
"""

from collections.abc import AsyncIterator, Callable, Sequence

from cloister_common.caller import Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CallerGone
from cloister_common.payer import Payer
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cloister_gateway.wire.readers import TimedStream

__all__ = ["forward"]

_REQUEST_HEADERS = ("content-type", "content-length", "range")
_RESPONSE_HEADERS = (
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-length",
    "content-range",
    "content-security-policy",
    "content-type",
    "openai-poll-after-ms",
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
    payer: Payer | None = None,
    send_seconds: float,
    body: bytes | None = None,
    change: Callable[[bytes], bytes] | None = None,
) -> Response:
    """The retriever's answer to ``request``, made at ``path`` for a caller of ``tenant``.

    Args:
        retriever: Its client.
        request: The caller's request; its body has not been read.
        path, query: Where to send it, checked.
        tenant: Whose request it is.
        caller: Who of them asks.
        payer: Who pays for what is ingested.
        send_seconds: The longest one piece of the answer may take to go out.
        body: Sent in the place of the request's.
        change: Of an answer that is a success, which is small: what its caller gets.

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
            headers=_sent(request, () if body is None else ("content-length",)),
            content=_once(body) if body is not None else request.stream() if request.method == "POST" else None,
            caller=caller,
            payer=payer,
        )
    except ClientDisconnect as error:
        raise CallerGone from error
    headers = {name: answer.headers[name] for name in _RESPONSE_HEADERS if name in answer.headers}
    if change is not None and answer.status == 200:
        try:
            whole = b"".join([piece async for piece in answer.body()])
        finally:
            await answer.close()
        return Response(change(whole), media_type=headers.get("content-type"))
    return TimedStream(
        answer.body(), send_seconds=send_seconds, close=answer.close, status_code=answer.status, headers=headers
    )


def _sent(request: Request, without: Sequence[str]) -> dict[str, str]:
    names = (name for name in _REQUEST_HEADERS if name not in without)
    return {name: request.headers[name] for name in names if name in request.headers}


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
