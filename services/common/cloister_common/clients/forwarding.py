"""Requests about files and vector stores that are handed on to the retriever, and its answers, both as streams."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import httpx

from cloister_common.errors import Unavailable, UpstreamFailed
from cloister_common.logs import get_logger

__all__ = ["Forwarder", "HandedOn", "no_documents"]

log = get_logger(__name__)

_RETRY_SECONDS = 5
_PATIENCE = 4
"""So many deadlines a change that is handed on may take, as two thousand files that are attached to a busy disk do: it
goes on over there in any case, and to be told that nothing could be reached would be wrong."""


class HandedOn:
    """An answer as it comes, its body unread. `close` it, whatever happened.

    Attributes:
        status: HTTP's.
        headers: All that the retriever sent; who passes them on chooses.
    """

    def __init__(self, response: httpx.Response, place: asyncio.Semaphore) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._place: asyncio.Semaphore | None = place

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces. If the retriever breaks off so does this: who reads on sees a cut, never a short file."""
        async for chunk in self._response.aiter_raw():
            yield chunk

    async def close(self) -> None:
        """Gives the connection back, or cuts it where the body was not read; doing it twice is no error."""
        place, self._place = self._place, None
        if place is not None:
            place.release()
            await self._response.aclose()


class Forwarder:
    """Hands requests on over a pool that others use too.

    Args:
        http: The pool.
        most: How many may be under way at once; others wait.
        deadline_seconds: Of each wait; of the answer to a change `_PATIENCE` times that.
    """

    def __init__(self, http: httpx.AsyncClient, *, most: int, deadline_seconds: float) -> None:
        self._http = http
        self._places = asyncio.Semaphore(most)
        self._deadline_seconds = deadline_seconds
        self._patient = httpx.Timeout(**{**http.timeout.as_dict(), "read": _PATIENCE * deadline_seconds})

    async def forward(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str],
        content: AsyncIterator[bytes] | None = None,
    ) -> HandedOn:
        """Hands one request on and the answer back, both as streams: a file of any size never lies here.

        Args:
            method, path, query, headers: HTTP's, of what was looked at already, with the token and for whom.
            content: The body. What it raises comes out of here.

        Raises:
            Unavailable: The retriever cannot be reached, does not begin its answer in time, or as much is being
                handed on as may be.
            UpstreamFailed: It does not know its caller.
        """
        request = self._http.build_request(
            method,
            path,
            params=list(query),
            headers=headers,
            content=content,
            timeout=httpx.USE_CLIENT_DEFAULT if method == "GET" else self._patient,
        )
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise no_documents() from error
        try:
            response = await self._http.send(request, stream=True)
        except httpx.TransportError as error:
            self._places.release()
            log.warning("retriever_unreachable", error=type(error).__name__)
            raise no_documents() from error
        except BaseException:
            self._places.release()
            raise
        answer = HandedOn(response, self._places)
        # The retriever tells a caller that a file is another's with a 403 of its own, in JSON.
        its_own = answer.headers.get("content-type", "").startswith("application/json")
        if answer.status == 401 or (answer.status == 403 and not its_own):
            await answer.close()
            log.error("retriever_refused_gateway", status=answer.status)
            raise UpstreamFailed("Files and vector stores do not know this gateway. The operator's log has the reason.")
        return answer


def no_documents() -> Unavailable:
    """What a caller is told where the retriever cannot be reached."""
    return Unavailable("Files and vector stores cannot be reached now. Try again.", retry_after=_RETRY_SECONDS)
