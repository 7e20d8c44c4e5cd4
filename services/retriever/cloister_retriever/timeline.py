"""Lists that are read page by page: records whose names in the object store are ids that begin with their time.

A store lists names forwards only, from a name on. So the newest are looked for in the last hour, then in the sixteen
before it, and so on: a busy tenant's first page ends there, and a quiet one's whole list is a few looks long.

Ids of the version before say no time. They are few and become fewer, so their records are all read. One in 300 of them
looks like a time, and is listed as if it were made then.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Generic, TypeVar

from cloister_retriever.identifiers import is_id, least_id, place_in, places
from cloister_retriever.pages import Bounds, Order, PlacedObject, bounds_of, growing_steps
from cloister_retriever.storage.objects import ListedObject, Objects
from cloister_retriever.storage.records import RecordKind, SealedRecords

__all__ = ["Timeline"]

_FIRST_SPAN_NS = 3600 * 10**9
_SPANS_GROW = 16


R = TypeVar("R", bound=PlacedObject)


class Timeline(Generic[R]):
    """The records of one folder, by the time they were made.

    Args:
        objects: The object store.
        records: Reads them.
        folder: Their path without the last segment.
        prefix: Of their ids.
        kind: What they are.
    """

    def __init__(self, objects: Objects, records: SealedRecords, folder: str, prefix: str, kind: RecordKind[R]) -> None:
        self._objects = objects
        self._records = records
        self._folder = folder
        self._prefix = prefix
        self._kind = kind

    async def bounds(self, *, after: str | None, before: str | None = None, order: Order) -> Bounds:
        """The bounds of a page, see `bounds_of`. Items that cursors name may be gone, if their ids say a time.

        Raises:
            InvalidRequest: A cursor names nothing, and has no place.
        """
        found = {cursor: await self._place(cursor) for cursor in (after, before) if cursor is not None}
        return bounds_of(after=after, before=before, order=order, place_of=found.get)

    async def steps(self, bounds: Bounds, first: int) -> AsyncGenerator[Sequence[R]]:
        """What lies within, from the end on that the page is taken from: about ``first`` records, then more a step."""
        old = bounds.part(await self._old(), _position)
        async for names in self._placed(bounds):
            for part in growing_steps([one for one in names if bounds.holds(_position_in(one))], first):
                records = await self._records.read(part, self._kind)
                reached = _position_in(part[-1])
                passed = [one for one in old if (_position(one) > reached) == bounds.newest_first]
                old = old[len(passed) :]
                yield sorted([*records, *passed], key=_position, reverse=bounds.newest_first)
        for rest in growing_steps(old, first):
            yield rest

    async def _place(self, cursor: str) -> int | None:
        place = place_in(cursor)
        if place is None and is_id(self._prefix, cursor):
            for record in await self._records.some(self._folder, [cursor], self._kind):
                return record.place
        return place

    async def _old(self) -> list[R]:
        """Every record whose id says no time."""
        first, last = places()
        early, late = await asyncio.gather(
            self._names(until=least_id(self._prefix, first)), self._names(after=least_id(self._prefix, last + 1))
        )
        return await self._records.read([*early, *late], self._kind)

    async def _names(self, *, after: str = "", until: str | None = None) -> list[ListedObject]:
        return [one async for some in self._objects.between(self._folder, after=after, until=until) for one in some]

    async def _placed(self, bounds: Bounds) -> AsyncIterator[list[ListedObject]]:
        """What the others are called, a part of the list at a time. It may begin and end a little out of bounds."""
        first, last = places()
        lower = first if bounds.lower is None else max(first, bounds.lower[0])
        upper = last if bounds.upper is None else min(last, bounds.upper[0])
        if not bounds.newest_first:
            async for names in self._between(lower, upper):
                yield names
            return
        span = _FIRST_SPAN_NS
        while upper >= lower:
            since = max(lower, upper - span)
            found = [one async for names in self._between(since, upper) for one in names]
            yield found[::-1]
            upper = since - 1
            span *= _SPANS_GROW

    async def _between(self, first: int, last: int) -> AsyncIterator[list[ListedObject]]:
        after, until = least_id(self._prefix, first), least_id(self._prefix, last + 1)
        async for names in self._objects.between(self._folder, after=after, until=until):
            yield [one for one in names if is_id(self._prefix, one.leaf)]


def _position(record: PlacedObject) -> tuple[int, str]:
    return place_in(record.id) or record.place, record.id


def _position_in(listed: ListedObject) -> tuple[int, str]:
    return place_in(listed.leaf) or 0, listed.leaf
