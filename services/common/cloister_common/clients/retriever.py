"""The client of the retriever, for the gateway: the search of a turn, and what of files and vector stores it hands on.

Both go over one pool. What is handed on may take as long as a caller's line is slow, so it gets half of the pool, and
searches never wait behind uploads.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from pydantic import ValidationError

from cloister_common.caller import NOBODY, Caller
from cloister_common.clients.call import AWAY_SECONDS, RetryPolicy, call, check_ready
from cloister_common.errors import Unavailable, UpstreamFailed
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.logs import get_logger
from cloister_common.settings import ClientTls
from cloister_common.validation import validation_error
from cloister_common.wire.reading import ReadFile
from cloister_common.wire.search import FoundPassage, InternalSearch, PassagePlace

__all__ = ["FoundPassage", "HandedOn", "PassagePlace", "RetrieverClient"]

log = get_logger(__name__)

_PART = "retriever"
_CHECK_SECONDS = 3.0
"""A check that takes longer is not worth waiting for: the search finds the same."""

_CONNECTIONS = 200
_MOST_HANDED_ON = 100
_RETRY_SECONDS = 5


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


class RetrieverClient:
    """Calls a retriever. One instance serves any number of tasks; `close` it at the end.

    Args:
        url: Its base URL.
        tokens: The retriever's internal tokens.
        tls: Whom to trust where the URL is https.
        deadline_seconds: Bound of one call, its retries included; of what is handed on, of each wait in it.
        retry: How often and how patiently calls are repeated. What is handed on is sent once.
    """

    def __init__(
        self,
        url: str,
        tokens: InternalTokens,
        tls: ClientTls,
        *,
        deadline_seconds: float = 30.0,
        retry: RetryPolicy = RetryPolicy(),
    ) -> None:
        self._tokens = tokens
        self._deadline_seconds = deadline_seconds
        self._retry = retry
        self._http = http_client(url, tls=tls, timeout_seconds=deadline_seconds, connections=_CONNECTIONS)
        self._places = asyncio.Semaphore(_MOST_HANDED_ON)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def check(self) -> None:
        """Raises `Unavailable` unless the retriever says that it is ready."""
        await check_ready(self._http, _PART)

    async def check_stores(self, tenant: str, vector_store_ids: Sequence[str]) -> None:
        """Looks whether the tenant has all these stores. Asks once, and not for long.

        Raises:
            NotFound: A store is unknown to this tenant.
            Unavailable: The retriever does not answer now.
            UpstreamFailed: It answered something else.
        """
        await asyncio.gather(*(self._check_store(tenant, store_id) for store_id in vector_store_ids))

    async def _check_store(self, tenant: str, store_id: str) -> None:
        await call(
            self._http,
            _PART,
            "GET",
            f"/v1/vector_stores/{quote(store_id, safe='')}",
            headers=self._tokens.headers(tenant),
            deadline_seconds=_CHECK_SECONDS,
            retry=RetryPolicy(attempts=1),
        )

    async def search(
        self,
        tenant: str,
        vector_store_ids: Sequence[str],
        query: str | Sequence[str],
        *,
        max_num_results: int = 10,
        filters: Mapping[str, Any] | None = None,
        ranking_options: Mapping[str, Any] | None = None,
        caller: Caller = NOBODY,
    ) -> list[FoundPassage]:
        """The best passages of all the stores that ``caller`` sees, best first. The options are OpenAI's of the file
        search tool.

        Raises:
            NotFound: A store is unknown to this tenant.
            InvalidRequest: A filter, option or query is wrong.
            Conflict: A store has expired.
            Unavailable: The retriever, its index or its embedder is down. Where one of them is away this comes within
                `AWAY_SECONDS`, and a moment.
            UpstreamFailed: It answered something else.
        """
        fields: dict[str, Any] = {
            "vector_store_ids": list(vector_store_ids),
            "query": query if isinstance(query, str) else list(query),
            "max_num_results": max_num_results,
            "filters": filters,
            "ranking_options": ranking_options,
        }
        try:
            request = InternalSearch.model_validate(
                {name: value for name, value in fields.items() if value is not None}
            )
        except ValidationError as error:
            raise validation_error(error.errors(include_input=False, include_url=False)) from None
        response = await call(
            self._http,
            _PART,
            "POST",
            "/internal/search",
            headers=self._tokens.headers(tenant) | caller.headers() | {"content-type": "application/json"},
            content=request.model_dump_json(exclude_none=True).encode(),
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )
        try:
            return [FoundPassage.of_wire(result) for result in orjson.loads(response.content)["data"]]
        except (ValidationError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise UpstreamFailed("The retriever answered something that is not its schema.") from error

    async def read(
        self,
        tenant: str,
        *,
        file_id: str | None = None,
        name: str | None = None,
        content: bytes | None = None,
        caller: Caller = NOBODY,
    ) -> ReadFile:
        """The text of a file: of the tenant's ``file_id``, or of ``content``, which is called ``name``.

        Raises:
            NotFound: The file is unknown to this tenant, or ``caller`` may not see it.
            InvalidRequest: It cannot be read, has no text, or too much for one prompt.
            PayloadTooLarge: It is too large to be read while somebody waits.
            Unavailable: The retriever is down, or takes too long.
            UpstreamFailed: It answered something else.
        """
        what = f"file_id={quote(file_id, safe='')}" if file_id is not None else f"name={quote(name or '', safe='')}"
        response = await call(
            self._http,
            _PART,
            "POST",
            f"/internal/read?{what}",
            headers=self._tokens.headers(tenant) | caller.headers() | {"content-type": "application/octet-stream"},
            content=content or b"",
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )
        try:
            return ReadFile.model_validate_json(response.content)
        except ValidationError:
            # Without its cause, which quotes the file.
            raise UpstreamFailed("The retriever answered something that is not its schema.") from None

    async def forward(
        self,
        tenant: str,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: AsyncIterator[bytes] | None = None,
        caller: Caller = NOBODY,
    ) -> HandedOn:
        """Hands one request on and the answer back, both as streams: a file of any size never lies here.

        Args:
            tenant: For whom.
            method, path, query, headers: HTTP's, of what was looked at already. The token and for whom are set here.
            content: The body. What it raises comes out of here.
            caller: Who of the tenant asks.

        Raises:
            Unavailable: The retriever cannot be reached, does not begin its answer in time, or as much is being
                handed on as may be.
            UpstreamFailed: It does not know its caller.
        """
        request = self._http.build_request(
            method,
            path,
            params=list(query),
            headers={**(headers or {}), **self._tokens.headers(tenant), **caller.headers()},
            content=content,
        )
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise _no_documents() from error
        try:
            response = await self._http.send(request, stream=True)
        except httpx.TransportError as error:
            self._places.release()
            log.warning("retriever_unreachable", error=type(error).__name__)
            raise _no_documents() from error
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


def _no_documents() -> Unavailable:
    return Unavailable("Files and vector stores cannot be reached now. Try again.", retry_after=_RETRY_SECONDS)
