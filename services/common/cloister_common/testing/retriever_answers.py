"""What the fake retriever answers with: results, pages, filters, and the errors of a body."""

from typing import Any

import orjson
from fastapi import Request

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.testing.embedder import fake_vector

__all__ = [
    "Json",
    "missing_parameter",
    "page_of",
    "passes",
    "queries_of",
    "read_body",
    "result_of",
    "vector_of",
]

Json = dict[str, Any]

_DIMENSIONS = 64


def result_of(store_id: str, attached: Json, file: Json, text: str, score: float) -> Json:
    """One search result."""
    place = {"id": f"psg_{attached['id'][5:]}", "index": 0, "page": None, "section": None}
    return {
        "file_id": file["id"],
        "filename": file["filename"],
        "score": min(max(score, 0.0), 1.0),
        "attributes": attached["attributes"],
        "content": [{"type": "text", "text": text}],
        "passage": {**place, "start": 0, "end": len(text)},
        "vector_store_id": store_id,
    }


def passes(filters: Json, attributes: Json) -> bool:
    """Only what tests of callers need: eq, ne, and, or."""
    kind = filters["type"]
    if kind in {"and", "or"}:
        results = [passes(part, attributes) for part in filters["filters"]]
        return all(results) if kind == "and" else any(results)
    if kind not in {"eq", "ne"}:
        raise UnsupportedParameter("filters", "The fake retriever compares with 'eq' and 'ne' only.")
    return bool((attributes.get(filters["key"]) == filters["value"]) == (kind == "eq"))


def vector_of(text: str) -> tuple[float, ...]:
    """The vector a text is compared by."""
    return tuple(memoryview(fake_vector(text, _DIMENSIONS)).cast("f"))


def queries_of(body: Json) -> list[str]:
    """The queries of a search, always as a list."""
    return [body["query"]] if isinstance(body["query"], str) else list(body["query"])


async def read_body(request: Request, known: set[str]) -> Json:
    """The JSON of a request that may have the fields ``known`` only."""
    try:
        body: Json = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error
    for name in body:
        if name not in known:
            raise UnsupportedParameter(name)
    return body


def missing_parameter(name: str) -> InvalidRequest:
    """The error for a field that must be there."""
    return InvalidRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")


def page_of(items: list[Json], request: Request, made: list[str]) -> Json:
    """OpenAI's list object for ``items``, which are in the order of their creation.

    ``made`` are the ids of all that ever were in the list, in that order: a cursor may name one that is gone.
    """
    newest_first = request.query_params.get("order", "desc") == "desc"
    ordered = list(reversed(items)) if newest_first else items
    after = request.query_params.get("after")
    if after is not None:
        if after not in made:
            raise InvalidRequest("'after' names no item of this list.", param="after")
        at = made.index(after)
        behind = made[:at] if newest_first else made[at + 1 :]
        ordered = [item for item in ordered if item["id"] in behind]
    limit = int(request.query_params.get("limit", "10000"))
    page = ordered[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(ordered) > limit,
    }
