"""OpenAI's cursor pagination, for every list route."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from cloister_common.errors import InvalidRequest
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ListQuery", "Order", "page_of", "wire_page"]

Order = Literal["asc", "desc"]
T = TypeVar("T")


class ListQuery(BaseModel):
    """The query parameters most list routes take."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = None
    before: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Order = "desc"


def page_of(
    items: Sequence[T],
    *,
    id_of: Callable[[T], str],
    created: Callable[[T], int],
    after: str | None,
    before: str | None = None,
    limit: int,
    order: Order,
) -> tuple[list[T], bool]:
    """One page of ``items`` ordered by creation, and whether there are more in its direction.

    ``after`` starts behind that item; ``before`` (without ``after``) ends just before it.

    Raises:
        InvalidRequest: The cursor names no item of the list.
    """
    ordered = sorted(items, key=lambda item: (created(item), id_of(item)), reverse=order == "desc")
    ids = [id_of(item) for item in ordered]
    first, end = 0, len(ordered)
    if after is not None:
        first = _position(ids, after, "after") + 1
    if before is not None:
        end = _position(ids, before, "before")
        if after is None:
            first = max(0, end - limit)
            return list(ordered[first:end]), first > 0
    chosen = list(ordered[first : min(end, first + limit)])
    return chosen, first + limit < end


def wire_page(data: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's list object of objects that have an ``id``."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def _position(ids: Sequence[str], cursor: str, param: str) -> int:
    try:
        return ids.index(cursor)
    except ValueError as error:
        raise InvalidRequest(
            f"'{param}' names no item of this list. Use an id that an earlier page returned.", param=param
        ) from error
