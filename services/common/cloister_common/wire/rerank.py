"""The rerank schema: the shape that Cohere began and Jina, vLLM and others serve, since OpenAI has none.

    {model, query, documents: [str], top_n?, return_documents?}
    → {id, model, results: [{index, relevance_score, document?: {text}}], usage: {prompt_tokens, total_tokens}}

Results come best first; equal scores keep the caller's order. ``relevance_score`` is between 0 and 1.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field

from cloister_common.errors import InvalidRequest
from cloister_common.ids import new_id
from cloister_common.wire.requests import RequestModel, parse_request

__all__ = ["MAX_DOCUMENTS", "RerankRequest", "parse_rerank_request", "rerank_body"]

MAX_DOCUMENTS = 1000
"""Documents in one request. A search reranks some tens of candidates; more than this is a mistake."""


class RerankRequest(RequestModel):
    """The body of ``POST /v1/rerank``. Build it with `parse_rerank_request`."""

    model_config = ConfigDict(frozen=True)

    model: str
    query: str = Field(min_length=1)
    documents: list[str] = Field(fail_fast=True)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False


def parse_rerank_request(body: bytes) -> RerankRequest:
    """Reads a request body.

    Raises:
        InvalidRequest: Not JSON, or a wrong, missing or unknown field, or no documents, too many, an empty one.
    """
    request = parse_request(RerankRequest, body)
    if not request.documents:
        raise InvalidRequest(
            "'documents' must not be an empty list. Send at least one string.", param="documents", code="empty_array"
        )
    if len(request.documents) > MAX_DOCUMENTS:
        raise InvalidRequest(
            f"'documents' has {len(request.documents)} items; the limit is {MAX_DOCUMENTS}. Send the best candidates.",
            param="documents",
            code="array_above_max_length",
        )
    for index, document in enumerate(request.documents):
        if not document:
            param = f"documents[{index}]"
            raise InvalidRequest(f"'{param}' is an empty string. Leave it out.", param=param, code="empty_string")
    return request


def rerank_body(request: RerankRequest, scores: Sequence[float], *, prompt_tokens: int) -> dict[str, Any]:
    """The answer for ``scores``, one for each document in the caller's order."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: request.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if request.return_documents:
        for result in results:
            result["document"] = {"text": request.documents[result["index"]]}
    return {
        "id": new_id("rerank-"),
        "model": request.model,
        "results": results,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }
