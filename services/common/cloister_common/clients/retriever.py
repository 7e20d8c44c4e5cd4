"""The client of the retriever, for what the gateway asks on its own behalf: the search of a turn.

Files and vector stores the gateway only forwards; see ``cloister_gateway.documents``.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from cloister_common.clients.call import RetryPolicy, call
from cloister_common.errors import UpstreamFailed
from cloister_common.http import http_client
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls

__all__ = ["RetrieverClient"]

_PART = "retriever"


class RetrieverClient:
    """Calls a retriever. One instance serves any number of tasks; `close` it at the end.

    Args:
        url: Its base URL, without a path.
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

    async def search(
        self,
        tenant: str,
        *,
        vector_store_ids: Sequence[str],
        query: str,
        max_num_results: int,
        filters: dict[str, Any] | None = None,
        ranking_options: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """The best passages of the tenant's stores together, best first.

        Returns:
            OpenAI's search results, each with ``vector_store_id`` and ``passage`` (id, index, page, section, start,
            end).

        Raises:
            NotFound: One of the stores is not the tenant's.
            InvalidRequest: The query is too long or the filters are wrong.
            Unavailable: The retriever, its Milvus or the embedder is down.
            UpstreamFailed: It answered something else.
        """
        body: dict[str, Any] = {
            "vector_store_ids": list(vector_store_ids),
            "query": query,
            "max_num_results": max_num_results,
        }
        if filters is not None:
            body["filters"] = filters
        if ranking_options is not None:
            body["ranking_options"] = ranking_options
        response = await call(
            self._http,
            _PART,
            "POST",
            "/internal/search",
            headers=self._tokens.headers(tenant) | {"content-type": "application/json"},
            content=orjson.dumps(body),
            deadline_seconds=self._deadline_seconds,
            retry=self._retry,
        )
        try:
            results = orjson.loads(response.content)["data"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise UpstreamFailed(f"The {_PART} answered something that is not its schema.") from error
        if not isinstance(results, list):
            raise UpstreamFailed(f"The {_PART} answered something that is not its schema.")
        return results
