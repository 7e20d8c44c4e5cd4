"""OpenAI's cursor pagination, for every list route.

A cursor is a place in the order of creation. The item it names may be gone: whoever deletes while listing goes on.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from cloister_common.errors import InvalidRequest
from pydantic import BaseModel, ConfigDict, Field

from cloister_retriever.identifiers import place_in

__all__ = ["ListQuery", "Order", "Placed", "page_of", "wire_page"]

Order = Literal["asc", "desc"]
T = TypeVar("T")
_NS = 10**9


class Placed(BaseModel):
    """A record of something that is listed. ``created_at`` is OpenAI's, in seconds; a list orders finer than that.

    Records of a version that kept no ``created_ns`` come first in their second.
    """

    created_at: int
    created_ns: int | None = None

    @property
    def place(self) -> int:
        """Where a list has it: nanoseconds since the epoch."""
        return self.created_at * _NS if self.created_ns is None else self.created_ns


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
    place_of: Callable[[T], int],
    after: str | None,
    before: str | None = None,
    limit: int,
    order: Order,
    place_of_gone: Callable[[str], int | None] = place_in,
) -> tuple[list[T], bool]:
    """One page of ``items`` ordered by creation, and whether there are more in its direction.

    ``after`` starts behind that item; ``before`` (without ``after``) ends just before it. Where that item is gone,
    ``place_of_gone`` says where it was.

    Raises:
        InvalidRequest: The cursor never named an item of the list, as far as can be known.
    """
    ordered = sorted(items, key=lambda item: (place_of(item), id_of(item)))
    places = [(place_of(item), id_of(item)) for item in ordered]
    known = {name: place for place, name in places}

    def place(cursor: str, param: str) -> tuple[int, str]:
        found = known.get(cursor)
        if found is None and (found := place_of_gone(cursor)) is None:
            raise InvalidRequest(
                f"'{param}' names no item of this list. Use an id that an earlier page returned.", param=param
            )
        return found, cursor

    first, end = 0, len(ordered)
    for cursor, param, is_lower_end in ((after, "after", order == "asc"), (before, "before", order == "desc")):
        if cursor is None:
            continue
        if is_lower_end:
            first = bisect_right(places, place(cursor, param))
        else:
            end = bisect_left(places, place(cursor, param))
    wanted = ordered[first:end] if order == "asc" else ordered[first:end][::-1]
    chosen = wanted[:limit] if before is None or after is not None else wanted[-limit:]
    return chosen, len(wanted) > limit


def wire_page(data: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's list object of objects that have an ``id``."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
