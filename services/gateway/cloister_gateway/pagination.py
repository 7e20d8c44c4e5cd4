"""OpenAI's list shape, cut out of a list in memory."""

from collections.abc import Sequence
from typing import Any

from cloister_common.errors import InvalidRequest

__all__ = ["page"]


def page(
    items: Sequence[dict[str, Any]], *, limit: int, order: str, after: str | None, before: str | None = None
) -> dict[str, Any]:
    """One page of ``items`` (each with its ``id``, oldest first) as OpenAI's list object.

    Raises:
        InvalidRequest: ``after`` or ``before`` names no item of the list.
    """
    ordered = list(items) if order == "asc" else list(reversed(items))
    start, end = 0, len(ordered)
    ids = [item["id"] for item in ordered]
    for name, cursor in (("after", after), ("before", before)):
        if cursor is None:
            continue
        if cursor not in ids:
            raise InvalidRequest(f"'{name}' names no item of this list.", param=name)
        if name == "after":
            start = ids.index(cursor) + 1
        else:
            end = ids.index(cursor)
    chosen = ordered[start:end][:limit]
    return {
        "object": "list",
        "data": chosen,
        "first_id": chosen[0]["id"] if chosen else None,
        "last_id": chosen[-1]["id"] if chosen else None,
        "has_more": end - start > len(chosen),
    }
