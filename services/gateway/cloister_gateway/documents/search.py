"""The search of one vector store where a chat model is to write a query more: ``rewrite_query`` of OpenAI's.

What the model writes is searched for beside what the caller wrote, and ``search_query`` of the answer has all of it.
Where it writes nothing the search goes on without, and ``query_rewritten``, which is ours, says so.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from cloister_common.errors import UnsupportedParameter

from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.rewriting import MOST_TOKENS, QueryRewriter
from cloister_gateway.usage import Metering, Used

__all__ = ["Search", "answered", "search_of"]

_MOST_QUERIES = 16
"""Of one search."""

_ASKED = b'"rewrite_query"'


class Search:
    """A search as it is sent on: its body, and whether a query was written for it; None where none was to be."""

    def __init__(self, body: bytes, rewritten: bool | None = None) -> None:
        self.body = body
        self.rewritten = rewritten


async def search_of(body: bytes, caller: Principal, rewriter: QueryRewriter, metering: Metering) -> Search:
    """The search that ``body`` asks for. One that is not what it should be goes on as it is: the retriever says why.

    Raises:
        UnsupportedParameter: A query is to be written, and there is no model for it.
        TooManyRequests: The caller may use no model now.
    """
    asked = _object(body) if _ASKED in body else None
    if asked is None or asked.get("rewrite_query") is not True:
        return Search(body)
    if rewriter.model is None or not rewriter.is_for(caller.tenant):
        raise UnsupportedParameter(
            "rewrite_query", "No chat model writes queries for this project. Leave 'rewrite_query' out."
        )
    query = asked.get("query")
    queries = [query] if isinstance(query, str) else query
    if not isinstance(queries, list) or not queries or not all(isinstance(one, str) for one in queries):
        return Search(orjson.dumps({**asked, "rewrite_query": False}))
    async with metering.around(caller, rewriter.model, "chat", most_output_tokens=MOST_TOKENS) as metered:
        written = await rewriter.rewrite(caller.tenant, [{"role": "user", "content": "\n".join(queries)}])
        metered.used = Used(prompt=written.prompt_tokens, output=written.output_tokens)
    if written.query is not None and written.query not in queries and len(queries) < _MOST_QUERIES:
        queries = [*queries, written.query]
    return Search(orjson.dumps({**asked, "query": queries, "rewrite_query": False}), written.query is not None)


def answered(search: Search, body: bytes) -> bytes:
    """The retriever's answer, with whether a query was written."""
    found = _object(body)
    return body if found is None else orjson.dumps({**found, "query_rewritten": search.rewritten})


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
