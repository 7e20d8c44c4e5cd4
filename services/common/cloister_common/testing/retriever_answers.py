"""What the fake retriever answers with: results, pages, filters, and the errors of a body."""

import base64
import struct
import time
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import Request

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.testing.embedder import fake_vector
from cloister_common.wire.search import RANKERS

__all__ = [
    "Json",
    "best_of",
    "check_document",
    "check_purpose",
    "found",
    "image_answer",
    "missing_parameter",
    "new_store",
    "page_of",
    "queries_of",
    "read_answer",
    "read_body",
    "result_of",
    "scorer_of",
]

Json = dict[str, Any]

_DIMENSIONS = 64
_PLANTED_SCORE = 0.9
_PURPOSES = {"assistants", "user_data", "batch", "vision"}
_REFUSED_PURPOSES = {"fine-tune", "fine-tune-results", "evals", "assistants_output", "batch_output"}


def result_of(store_id: str, attached: Json, file: Json, text: str, score: float) -> Json:
    """One search result."""
    place = {"id": f"psg_{attached['id'][5:]}", "index": 0, "page": None, "section": None}
    return {
        "file_id": file["id"],
        "filename": file["filename"],
        "score": min(max(score, 0.0), 1.0),
        "attributes": attached["attributes"],
        "content": [{"type": "text", "text": text}] if text else [],
        "passage": {**place, "start": 0, "end": len(text)},
        "found_by": "text",
        "vector_store_id": store_id,
    }


def found(
    text: str,
    *,
    file_id: str = "file-1",
    filename: str = "facts.md",
    attributes: Json | None = None,
    image: Json | None = None,
    **place: Any,
) -> Json:
    """A search result for a planted store, with its ``image`` if it is a picture; ``place`` is what differs of where it
    is, such as ``page``."""
    file = {"id": file_id, "filename": filename, "attributes": attributes or {}}
    result = result_of("", file, file, text, _PLANTED_SCORE)
    picture = {} if image is None else {"image": image, "found_by": "description" if text else "image"}
    return {**result, **picture, "passage": {**result["passage"], "id": f"psg_{text}", **place}}


def new_store(store_id: str, body: Json) -> Json:
    """What is kept of a store, made by ``body``."""
    return {
        "id": store_id,
        "created_at": int(time.time()),
        "last_active_at": int(time.time()),
        "metadata": body.get("metadata") or {},
        "name": body.get("name") or "",
        "description": body.get("description"),
        "protection": body.get("protection") or "sealed",
        "object": "vector_store",
        "expires_after": body.get("expires_after"),
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


def best_of(results: list[Json], body: Json) -> list[Json]:
    """Those of the results that the search ``body`` lets through, best first."""
    least = (body.get("ranking_options") or {}).get("score_threshold", -1.0)
    filters = body.get("filters")
    passing = [one for one in results if one["score"] >= least and (not filters or passes(filters, one["attributes"]))]
    ordered = sorted(passing, key=lambda one: -one["score"])
    once = {_said(one): one for one in reversed(ordered)}
    return [one for one in ordered if once[_said(one)] is one][: body.get("max_num_results", 10)]


def _said(result: Json) -> str:
    """The text of a result; of a picture without one its address."""
    return result["content"][0]["text"] if result["content"] else str(result["image"]["url"])


def scorer_of(body: Json) -> Callable[[str], float]:
    """How near a text is to the queries of a search, whose options are looked at first."""
    if "query" not in body:
        raise missing_parameter("query")
    if (body.get("ranking_options") or {}).get("ranker", "auto") not in RANKERS:
        raise UnsupportedParameter("ranking_options.ranker")
    queries = [_vector_of(query) for query in queries_of(body)]

    def score(text: str) -> float:
        return max(sum(a * b for a, b in zip(query, _vector_of(text), strict=True)) for query in queries)

    return score


def _vector_of(text: str) -> tuple[float, ...]:
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


def check_purpose(purpose: object) -> None:
    """Raises what the retriever does unless a file may be uploaded for ``purpose``."""
    if not isinstance(purpose, str):
        raise missing_parameter("purpose")
    if purpose in _REFUSED_PURPOSES:
        raise UnsupportedParameter("purpose")
    if purpose not in _PURPOSES:
        raise InvalidRequest("Invalid value for 'purpose'.", param="purpose")


def check_document(file: Json) -> None:
    """Raises what the retriever does unless the file may be put into a vector store."""
    if file["purpose"] in {"batch", "batch_output"}:
        raise InvalidRequest("The file is no document.", param="file_id", code="invalid_purpose")


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


def read_answer(file_id: str | None, name: str | None, content: bytes) -> Json:
    """The text of a file. Raises what the retriever does of one without text, or of a kind that it does not read."""
    if name is None:
        raise InvalidRequest("Send either 'file_id', or 'name' with the file as the body.", param="file_id")
    text = content.decode("utf-8", "replace")
    if "\x00" in text:
        raise InvalidRequest("This kind of file is not read.", param="file", code="unsupported_file")
    if not text.strip():
        raise InvalidRequest("There is no text in the file.", param="file", code="invalid_file")
    return {"file_id": file_id, "filename": name, "text": text}


def image_answer(file_id: str | None, content: bytes) -> Json:
    """An image, of which a PNG is known, by its first chunk, and given as it came. Raises what the retriever does."""
    if not content.startswith(_PNG):
        message = "The image is none that is known here. Send a PNG, JPEG, WebP or GIF."
        raise InvalidRequest(message, param="file", code="unsupported_image_media_type")
    if len(content) < len(_PNG) + 8:
        raise InvalidRequest("The image is damaged.", param="file", code="invalid_image")
    width, height = struct.unpack(">II", content[len(_PNG) : len(_PNG) + 8])
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return {"file_id": file_id, "url": url, "width": width, "height": height}


_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
