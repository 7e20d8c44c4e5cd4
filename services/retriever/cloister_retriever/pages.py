"""OpenAI's cursor pagination, for every list route.

A cursor is a place in the order of creation. The item it names may be gone: whoever deletes while listing goes on.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Literal, NamedTuple, TypeVar

from cloister_common.errors import InvalidRequest
from pydantic import BaseModel, ConfigDict, Field

from cloister_retriever.identifiers import place_in

__all__ = [
    "Bounds",
    "ListQuery",
    "Order",
    "Placed",
    "PlacedObject",
    "Wire",
    "bounds_of",
    "growing_steps",
    "page_of",
    "wire_page",
]

Order = Literal["asc", "desc"]
T = TypeVar("T")
Wire = dict[str, Any]
"""An object of OpenAI's schema, as it goes out. Inside it is a record."""
_NS = 10**9

_MOST_A_STEP = 1000
"""Records that are read before it is looked whether the page is full."""


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


class PlacedObject(Placed):
    """One with an id of its own. Those that are made now say the place in it."""

    id: str


class ListQuery(BaseModel):
    """The query parameters most list routes take."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = None
    before: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Order = "desc"


class Bounds(NamedTuple):
    """Which part of a list a page is taken from, and from which end. A place is beside the id of what is there."""

    order: Order
    lower: tuple[int, str] | None
    upper: tuple[int, str] | None
    """Neither is within."""

    newest_first: bool
    """Whether the page is the part's newest end. It is shown in ``order`` all the same."""

    def part(self, items: Iterable[T], position_of: Callable[[T], tuple[int, str]]) -> list[T]:
        """The items of the part, from the end on that the page is taken from."""
        positions = ((position_of(item), item) for item in items)
        inside = [(position, item) for position, item in positions if self.holds(position)]
        return [item for _, item in sorted(inside, key=lambda one: one[0], reverse=self.newest_first)]

    def holds(self, position: tuple[int, str]) -> bool:
        """Whether this position is within."""
        return (self.lower is None or position > self.lower) and (self.upper is None or position < self.upper)

    def page(self, taken: Sequence[T], limit: int) -> tuple[list[T], bool]:
        """The page, and whether there are more in its direction: of items of the part, more than ``limit`` if so."""
        chosen = list(taken[:limit])
        return chosen if self.newest_first == (self.order == "desc") else chosen[::-1], len(taken) > limit

    async def gather(self, steps: AsyncGenerator[Sequence[T]], limit: int) -> tuple[list[T], bool]:
        """`page` of what comes in steps. No more of them are asked for than it takes."""
        taken: list[T] = []
        async with aclosing(steps):
            async for step in steps:
                taken += step
                if len(taken) > limit:
                    break
        return self.page(taken, limit)


def bounds_of(
    *, after: str | None, before: str | None = None, order: Order, place_of: Callable[[str], int | None]
) -> Bounds:
    """The bounds of a page: ``after`` starts behind that item; ``before`` (without ``after``) ends just before it.

    Raises:
        InvalidRequest: ``place_of`` knows no place of the item, so it never was one of the list, as far as is known.
    """

    def position(cursor: str | None, param: str) -> tuple[int, str] | None:
        if cursor is None:
            return None
        place = place_of(cursor)
        if place is None:
            raise InvalidRequest(
                f"'{param}' names no item of this list. Use an id that an earlier page returned.", param=param
            )
        return place, cursor

    first, last = position(after, "after"), position(before, "before")
    lower, upper = (first, last) if order == "asc" else (last, first)
    return Bounds(order, lower, upper, newest_first=(order == "desc") == (before is None or after is not None))


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

    Where the item of a cursor is gone, ``place_of_gone`` says where it was.

    Raises:
        InvalidRequest: See `bounds_of`.
    """
    known = {id_of(item): place_of(item) for item in items}

    def place(cursor: str) -> int | None:
        return known[cursor] if cursor in known else place_of_gone(cursor)

    bounds = bounds_of(after=after, before=before, order=order, place_of=place)
    return bounds.page(bounds.part(items, lambda item: (place_of(item), id_of(item))), limit)


def growing_steps(items: Sequence[T], first: int) -> Iterator[Sequence[T]]:
    """``items`` in parts: ``first`` of them, then twice as many each time, within bounds."""
    size = min(first, _MOST_A_STEP)
    at = 0
    while at < len(items):
        yield items[at : at + size]
        at += size
        size = min(2 * size, _MOST_A_STEP)


def wire_page(data: Sequence[Wire], *, has_more: bool) -> Wire:
    """OpenAI's list object of objects that have an ``id``."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
