"""The client of the retriever, for the gateway: what a turn with ``file_search`` needs.

Files and vector stores the gateway forwards as they are, so they need no methods here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from cloister_common.clients.call import AWAY_SECONDS, RetryPolicy, call
from cloister_common.errors import UpstreamFailed
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls

__all__ = ["FoundPassage", "PassagePlace", "RetrieverClient"]

_PART = "retriever"
_CHECK_SECONDS = 3.0
"""A check that takes longer is not worth waiting for: the search finds the same."""


class PassagePlace(BaseModel):
    """Where a passage is in its file.

    Attributes:
        id: Of the passage.
        index: Its number in the file, from 0.
        page: 1-based, where the file has pages.
        section: The headings above it, outermost first, joined by `` > ``, where the file has headings.
        start: First character in the file's extracted text.
        end: One after the last.
    """

    id: str
    index: int
    page: int | None
    section: str | None
    start: int
    end: int


class FoundPassage(BaseModel):
    """One result of a search. ``score`` is the cosine of the exact vectors, from 0 to 1."""

    vector_store_id: str
    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | bool | int | float]
    text: str
    passage: PassagePlace


class RetrieverClient:
    """Calls a retriever. One instance serves any number of tasks; `close` it at the end.

    Args:
        url: Its base URL.
        tokens: The retriever's internal tokens.
        tls: Whom to trust where the URL is https.
        deadline_seconds: Bound of one call, its retries included.
        retry: How often and how patiently calls are repeated.
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
        self._http = http_client(url, tls=tls, timeout_seconds=deadline_seconds)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

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
    ) -> list[FoundPassage]:
        """The best passages of all the stores, best first. The options are OpenAI's of the file search tool.

        Raises:
            NotFound: A store is unknown to this tenant.
            InvalidRequest: A filter, option or query is wrong.
            Conflict: A store has expired.
            Unavailable: The retriever, its index or its embedder is down. Where one of them is away this comes within
                `AWAY_SECONDS`, and a moment.
            UpstreamFailed: It answered something else.
        """
        body: dict[str, Any] = {
            "vector_store_ids": list(vector_store_ids),
            "query": query if isinstance(query, str) else list(query),
            "max_num_results": max_num_results,
        }
        if filters is not None:
            body["filters"] = dict(filters)
        if ranking_options is not None:
            body["ranking_options"] = dict(ranking_options)
        response = await call(
            self._http,
            _PART,
            "POST",
            "/internal/search",
            headers=self._tokens.headers(tenant) | {"content-type": "application/json"},
            content=orjson.dumps(body),
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
            away_seconds=AWAY_SECONDS,
        )
        try:
            return [_found(result) for result in orjson.loads(response.content)["data"]]
        except (ValidationError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise UpstreamFailed("The retriever answered something that is not its schema.") from error


def _found(result: dict[str, Any]) -> FoundPassage:
    text = "".join(part["text"] for part in result["content"])
    return FoundPassage.model_validate({**result, "text": text})
