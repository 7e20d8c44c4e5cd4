"""OpenAI's list shape, cut out of a list in memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloister_common.errors import InvalidRequest

__all__ = ["older_left", "page"]


def older_left(items: Sequence[dict[str, Any]], gone: Mapping[str, str]) -> dict[str, int]:
    """Of each item that is no more, how many older ones of ``items`` (oldest first) are left.

    Args:
        items: The list, each with its ``id``.
        gone: By the id of what is no more, the id that stood before it; that may be no more too.
    """
    places = {item["id"]: place for place, item in enumerate(items, start=1)}
    found = {}
    for item_id in gone:
        before, seen = gone[item_id], {item_id}
        while before not in places and before in gone and before not in seen:
            seen.add(before)
            before = gone[before]
        found[item_id] = places.get(before, 0)
    return found


def page(
    items: Sequence[dict[str, Any]],
    *,
    limit: int,
    order: str,
    after: str | None,
    before: str | None = None,
    gone: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """One page of ``items`` (each with its ``id``, oldest first) as OpenAI's list object.

    Args:
        items: The whole list.
        limit: The most items of the page.
        order: ``asc``, or newest first.
        after: The page begins behind this item, ...
        before: ... or ends before it.
        gone: Items that are no more, by id, with the number of older items that are left: a cursor is a place, and
            who deletes while listing goes on from there.

    Raises:
        InvalidRequest: ``after`` or ``before`` names no item of the list.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    places: dict[str, tuple[int, int]] = {}
    if after is not None or before is not None:
        # Of each item, how many come before it and how many with it.
        places = {item["id"]: (place, place + 1) for place, item in enumerate(ordered)}
        for item_id, older in (gone or {}).items():
            place = older if order == "asc" else len(ordered) - older
            places[item_id] = (place, place)
    for name, cursor in (("after", after), ("before", before)):
        if cursor is not None and cursor not in places:
            raise InvalidRequest(f"'{name}' names no item of this list.", param=name)
    start = places[after][1] if after is not None else 0
    end = places[before][0] if before is not None else len(ordered)
    chosen = ordered[start:end][:limit]
    return {
        "object": "list",
        "data": chosen,
        "first_id": chosen[0]["id"] if chosen else None,
        "last_id": chosen[-1]["id"] if chosen else None,
        "has_more": end - start > len(chosen),
    }
