"""The client of the retriever, for the gateway: the search of a turn, and what of files and vector stores it hands on.

Both go over one pool. What is handed on may take as long as a caller's line is slow, so it gets half of the pool, and
searches never wait behind uploads.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import orjson
from pydantic import ValidationError

from cloister_common.caller import NOBODY, Caller
from cloister_common.clients.call import AWAY_SECONDS, RetryPolicy, call, check_ready, upstream_error
from cloister_common.clients.forwarding import Forwarder, HandedOn, no_documents
from cloister_common.clients.result_parts import ResultParts
from cloister_common.errors import UpstreamFailed
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.payer import Payer
from cloister_common.settings import ClientTls
from cloister_common.validation import validation_error
from cloister_common.wire.images import Detail, ReadImage
from cloister_common.wire.ingestions import IngestionNote, IngestionNotes, Word
from cloister_common.wire.reading import ReadFile
from cloister_common.wire.search import FoundImage, FoundPassage, InternalSearch, PassagePlace

__all__ = ["FoundPassage", "HandedOn", "PassagePlace", "Picture", "RetrieverClient"]

_PART = "retriever"
_CHECK_SECONDS = 3.0
"""A check that takes longer is not worth waiting for: the search finds the same."""

_CONNECTIONS = 200
_STORES_A_PAGE = 100
_MOST_HANDED_ON = 100


class Picture(NamedTuple):
    """A picture out of a file: its kind, ``image/png`` or ``image/jpeg``, and the file."""

    media_type: str
    content: bytes


class RetrieverClient:
    """Calls a retriever. One instance serves any number of tasks; `close` it at the end.

    Args:
        url: Its base URL.
        tokens: The retriever's internal tokens.
        tls: Whom to trust where the URL is https.
        deadline_seconds: Bound of one call, its retries included; of what is handed on, of each wait in it.
        retry: How often and how patiently calls are repeated. What is handed on is sent once.

    Attributes:
        parts: What became of batches that run.
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
        self._forwarder = Forwarder(self._http, most=_MOST_HANDED_ON, deadline_seconds=deadline_seconds)
        self.parts = ResultParts(self._ask)

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

    async def kept_bytes(self, tenant: str) -> int:
        """What all vector stores of the tenant take, in bytes.

        Raises:
            Unavailable: The retriever is down, or takes too long.
            UpstreamFailed: It answered something else.
        """
        total, after = 0, ""
        while True:
            response = await call(
                self._http,
                _PART,
                "GET",
                f"/v1/vector_stores?limit={_STORES_A_PAGE}{after}",
                headers=self._tokens.headers(tenant),
                deadline_seconds=self._deadline_seconds,
                retry=self._retry,
            )
            try:
                page = orjson.loads(response.content)
                total += sum(int(store["usage_bytes"]) for store in page["data"])
                more, last = bool(page["has_more"]), page["last_id"]
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise UpstreamFailed("The retriever answered something that is not its schema.") from error
            if not more:
                return total
            after = f"&after={quote(str(last), safe='')}"

    async def ingestions(self) -> list[IngestionNote]:
        """Those that ask, run or have ended, of all tenants; some of them, where there are very many.

        Raises:
            Unavailable: The retriever is down, or takes too long.
            UpstreamFailed: It answered something else.
            NotFound: It is of a version that keeps none.
        """
        response = await self._of_ingestions("GET", "")
        try:
            return IngestionNotes.model_validate_json(response.content).data
        except ValidationError:
            raise UpstreamFailed("The retriever answered something that is not its schema.") from None

    async def tell_ingestion(self, attachment_id: str, word: Word) -> None:
        """Says to an ingestion whether it may go on. Raises as `ingestions`."""
        await self._of_ingestions("POST", f"/{quote(attachment_id, safe='')}", word.model_dump_json().encode())

    async def drop_ingestion(self, attachment_id: str) -> None:
        """Has the note of an ingestion taken away that is among a gateway's rows. Raises as `ingestions`."""
        await self._of_ingestions("DELETE", f"/{quote(attachment_id, safe='')}")

    async def _of_ingestions(self, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        return await call(
            self._http,
            _PART,
            method,
            f"/internal/ingestions{path}",
            headers=self._tokens.headers() | {"content-type": "application/json"},
            content=content,
            deadline_seconds=self._deadline_seconds,
            retry=RetryPolicy(attempts=1),
        )

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
        response = await self._read(tenant, f"/internal/read?{what}", content, caller)
        try:
            return ReadFile.model_validate_json(response.content)
        except ValidationError:
            # Without its cause, which quotes the file.
            raise UpstreamFailed("The retriever answered something that is not its schema.") from None

    async def image(
        self,
        tenant: str,
        *,
        file_id: str | None = None,
        content: bytes | None = None,
        detail: Detail = "auto",
        caller: Caller = NOBODY,
    ) -> ReadImage:
        """An image as models are given it: the tenant's ``file_id``, or ``content``.

        Raises:
            NotFound: The file is unknown to this tenant, or ``caller`` may not see it.
            InvalidRequest: It is no image that is known, is broken, or is over a limit.
            PayloadTooLarge: It has too many bytes.
            Unavailable: The retriever is down, or takes too long.
            UpstreamFailed: It answered something else.
        """
        what = f"detail={detail}" if file_id is None else f"detail={detail}&file_id={quote(file_id, safe='')}"
        response = await self._read(tenant, f"/internal/image?{what}", content, caller)
        try:
            return ReadImage.model_validate_json(response.content)
        except ValidationError:
            raise UpstreamFailed("The retriever answered something that is not its schema.") from None

    async def _read(self, tenant: str, path: str, content: bytes | None, caller: Caller) -> httpx.Response:
        return await self._ask(tenant, "POST", path, content or b"", caller)

    async def _ask(
        self, tenant: str, method: str, path: str, content: bytes | None = None, caller: Caller = NOBODY
    ) -> httpx.Response:
        return await call(
            self._http,
            _PART,
            method,
            path,
            headers=self._tokens.headers(tenant) | caller.headers() | {"content-type": "application/octet-stream"},
            content=content,
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )

    async def file(self, tenant: str, file_id: str, *, caller: Caller = NOBODY) -> dict[str, Any]:
        """OpenAI's file object of a file that ``caller`` sees.

        Raises:
            NotFound: The file is unknown to this tenant, or ``caller`` may not see it.
            Unavailable: The retriever is down, or takes too long.
            UpstreamFailed: It answered something else.
        """
        response = await self._get(tenant, f"/v1/files/{quote(file_id, safe='')}", {}, caller)
        try:
            found: dict[str, Any] = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise UpstreamFailed("The retriever answered something that is not its schema.") from None
        return found

    async def content(self, tenant: str, file_id: str, *, start: int, stop: int, caller: Caller = NOBODY) -> bytes:
        """The bytes ``start`` to ``stop`` (exclusive) of a file, which has so many. Raises as `file`."""
        wanted = {"range": f"bytes={start}-{stop - 1}"}
        response = await self._get(tenant, f"/v1/files/{quote(file_id, safe='')}/content", wanted, caller)
        if len(response.content) != stop - start:
            raise UpstreamFailed("The retriever answered with another part of the file than it was asked for.")
        return response.content

    async def _get(self, tenant: str, path: str, headers: Mapping[str, str], caller: Caller) -> httpx.Response:
        return await call(
            self._http,
            _PART,
            "GET",
            path,
            headers=self._tokens.headers(tenant) | caller.headers() | dict(headers),
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )

    async def put_file(
        self,
        tenant: str,
        file_id: str,
        content: AsyncIterator[bytes],
        *,
        name: str,
        like: str,
        seconds: int | None = None,
        caller: Caller = NOBODY,
    ) -> None:
        """Writes a file of purpose ``batch_output`` under an id that `new_placed_id` made. Again it is the same file.

        Args:
            tenant: Whose it is.
            file_id: Its id.
            content: All of it. What it raises comes out of here.
            name: What it is called.
            like: The file it was made from: who sees that one sees this one.
            seconds: So long after it was made it expires; never if None.
            caller: For whom it was made.

        Raises:
            Unavailable: The retriever is down, or short of room.
            CloisterError: It refuses the file, as one that is too large.
        """
        query = [("name", name), ("like", like), *([] if seconds is None else [("seconds", str(seconds))])]
        answer = await self.forward(
            tenant, "PUT", f"/internal/files/{quote(file_id, safe='')}", query=query, content=content, caller=caller
        )
        try:
            body = b"".join([piece async for piece in answer.body()])
        except httpx.TransportError as error:
            raise no_documents() from error
        finally:
            await answer.close()
        if answer.status != 200:
            raise upstream_error(_PART, httpx.Response(answer.status, headers=answer.headers, content=body))

    async def picture(self, tenant: str, image: FoundImage, *, caller: Caller = NOBODY) -> Picture:
        """The picture that a result of a search is, as PNG or JPEG of at most 2,048 pixels a side.

        Raises:
            NotFound: It is gone by now, or ``caller`` may not see its file.
            Unavailable: The retriever is down, or takes too long.
        """
        response = await call(
            self._http,
            _PART,
            "GET",
            image.url,
            headers=self._tokens.headers(tenant) | caller.headers(),
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )
        return Picture(response.headers.get("content-type", ""), response.content)

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
        payer: Payer | None = None,
    ) -> HandedOn:
        """Hands one request on and the answer back, as `Forwarder.forward` says."""
        paid = {} if payer is None else payer.headers()
        own = {**(headers or {}), **self._tokens.headers(tenant), **caller.headers(), **paid}
        return await self._forwarder.forward(method, path, query=query, headers=own, content=content)
