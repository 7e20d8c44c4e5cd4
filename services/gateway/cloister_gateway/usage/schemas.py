"""Usage in OpenAI's admin schema: pages of buckets of results; its query, and the same as CSV.

Source: OpenAI API reference, "Usage", and the types of the ``openai`` package (3.54).
"""

import csv
import io
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from starlette.datastructures import QueryParams

from cloister_gateway.usage.metering import Kind
from cloister_gateway.usage.queries import Group, Query, Width
from cloister_gateway.usage.records import Numbers

__all__ = [
    "GROUPS",
    "LISTS",
    "SINGLE",
    "completions_result",
    "embeddings_result",
    "page_body",
    "projects_of",
    "query_of",
    "table",
    "vector_stores_result",
]

Body = dict[str, Any]

LISTS = ("api_key_ids", "group_by", "models", "project_ids", "user_ids")
"""Query parameters that may come several times, with or without brackets."""
SINGLE = ("batch", "bucket_width", "end_time", "limit", "page", "start_time")

_LIMITS: Mapping[Width, tuple[int, int]] = {"1d": (7, 31), "1h": (24, 168)}
"""Buckets of a page by width: by default, and at most."""
GROUPS = ("project_id", "user_id", "api_key_id", "model")
"""What is told apart on every route."""
_NOT_TOLD_APART = ("service_tier", "api_source")


def query_of(asked: QueryParams, kinds: Collection[Kind], *, groups: Collection[str] = GROUPS) -> Query:
    """What a request asks.

    Args:
        asked: Its query parameters.
        kinds: Of which calls its route tells.
        groups: What may be told apart there.

    Raises:
        InvalidRequest, UnsupportedParameter: By the name of the parameter.
    """
    width = _width(asked.get("bucket_width", "1d"))
    group_by = _several(asked, "group_by")
    for name in group_by:
        if name not in (*groups, *_NOT_TOLD_APART):
            raise _invalid("group_by", f"knows {', '.join(groups)}")
    batch = asked.get("batch")
    if batch not in {None, "true", "false"}:
        raise _invalid("batch", "must be 'true' or 'false'")
    default, most = _LIMITS[width]
    limit = _number(asked, "limit", default)
    if not 1 <= limit <= most:
        raise _invalid("limit", f"must be between 1 and {most} with 'bucket_width' {width}")
    start = _number(asked, "start_time")
    end = _number(asked, "end_time", int(time.time()) + 1)
    if end <= start:
        raise _invalid("end_time", "must be after 'start_time'")
    if "page" in asked:
        start = _number(asked, "page")
    return Query(
        kinds,
        start,
        end,
        width,
        limit,
        tuple(name for name in group_by if name in groups),
        _several(asked, "user_ids"),
        _several(asked, "api_key_ids"),
        _several(asked, "models"),
        None if batch is None else batch == "true",
    )


def projects_of(asked: QueryParams) -> list[str]:
    """The projects that a request asks for; none are all."""
    return _several(asked, "project_ids")


def completions_result(group: Group, used: Numbers) -> Body:
    """``organization.usage.completions.result``. (Of a month of a thousand projects there are 31,000.)"""
    requests, read, cached, written, *_ = used
    project, user, key, model, batch = group
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": read,
        "output_tokens": written,
        "input_cached_tokens": cached,
        "num_model_requests": requests,
        "project_id": project,
        "user_id": user,
        "api_key_id": key,
        "model": model,
        "batch": batch,
        "service_tier": None,
    }


def embeddings_result(group: Group, used: Numbers) -> Body:
    """``organization.usage.embeddings.result``"""
    requests, read, *_ = used
    return {
        "object": "organization.usage.embeddings.result",
        "input_tokens": read,
        "num_model_requests": requests,
        "project_id": group.project_id,
        "user_id": group.user_id,
        "api_key_id": group.api_key_id,
        "model": group.model,
    }


def vector_stores_result(project: str | None, kept: int) -> Body:
    """``organization.usage.vector_stores.result``"""
    return {"object": "organization.usage.vector_stores.result", "usage_bytes": kept, "project_id": project}


def page_body(buckets: Sequence[tuple[int, int, list[Body]]], following: int | None) -> Body:
    """A page of buckets (from, to, results)."""
    data = [
        {"object": "bucket", "start_time": start, "end_time": end, "results": results}
        for start, end, results in buckets
    ]
    return {
        "object": "page",
        "data": data,
        "has_more": following is not None,
        "next_page": None if following is None else str(following),
    }


def table(page: Body) -> str:
    """The same as CSV: a line for each result."""
    out = io.StringIO()
    lines = [
        {"start_time": bucket["start_time"], "end_time": bucket["end_time"], **_flat(result)}
        for bucket in page["data"]
        for result in bucket["results"]
    ]
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["start_time", "end_time"], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat(result: Body) -> Body:
    amount = result.get("amount")
    rest = {name: value for name, value in result.items() if name not in {"object", "amount"}}
    # (What begins with one of these a spreadsheet would take for a formula.)
    safe = {
        name: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value for name, value in rest.items()
    }
    return safe if amount is None else {**safe, **amount}


def _width(said: str) -> Width:
    match said:
        case "1h" | "1d":
            return said
        case "1m":
            what = "Sums are kept by hour and day: send '1h' or '1d' as 'bucket_width'."
            raise UnsupportedParameter("bucket_width", what)
        case _:
            raise _invalid("bucket_width", "must be '1h' or '1d'")


def _several(asked: QueryParams, name: str) -> list[str]:
    return [value for spelled in (name, f"{name}[]") for value in asked.getlist(spelled)]


def _number(asked: QueryParams, name: str, default: int | None = None) -> int:
    said = asked.get(name)
    if said is None:
        if default is None:
            raise _invalid(name, "is needed: seconds since 1970")
        return default
    if not said.isascii() or not said.isdigit() or len(said) > 11:
        raise _invalid(name, "must be a whole number of seconds since 1970" if name != "limit" else "must be a number")
    return int(said)


def _invalid(name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' {what}.", param=name, code="invalid_value")
