"""Query parameters: what would change the answer of OpenAI's API and does not change ours is refused by name.

What means nothing there is passed over, as it is there: gateways, trackers and caches add parameters of their own
(``api-version``, ``utm_source``, ``_``), and clients cannot always help it.
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, get_args

from cloister_common.access import Direct
from cloister_common.errors import InvalidRequest, UnsupportedParameter
from fastapi import Depends, Request
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from cloister_gateway.wire.includes import IMAGES, INCLUDABLE, RESULTS

__all__ = ["DECLARED_QUERY", "NO_QUERY", "Wanted", "known_pairs", "only_query", "wanted"]

_OF_LISTS = frozenset(
    {"after", "before", "filter", "include", "limit", "order", "purpose", "starting_after", "stream"}
    | {"include_archived", "owner_project_access"}
)
"""OpenAI's on routes that are served. Whoever misspells one means it."""

_ELSEWHERE = frozenset(
    {"actor_emails", "actor_ids", "api_key_ids", "batch", "bucket_width", "effective_at", "emails", "end_time"}
    | {"event_types", "group_by", "metadata", "model", "models", "page", "project_id", "project_ids", "resource_ids"}
    | {"start_time", "status", "user_ids"}
    | {"cursor", "offset", "order_by", "page_size", "per_page", "skip", "sort", "sort_by"}
)
"""OpenAI's on other routes; and in the last line what others page with: without it, every page would be the first."""


def _shorter(name: str) -> set[str]:
    """``name``, and ``name`` without any one character: two names that share one of these are a slip apart."""
    return {name, *(name[:place] + name[place + 1 :] for place in range(len(name)))}


_SLIPS = frozenset().union(*map(_shorter, _OF_LISTS))
_LONGEST = max(map(len, _OF_LISTS)) + 1


def _means_something(name: str) -> bool:
    plain = name.casefold().replace("-", "_").removesuffix("[]")
    return plain in _ELSEWHERE or (len(plain) <= _LONGEST and not _SLIPS.isdisjoint(_shorter(plain)))


def only_query(request: HTTPConnection, known: Collection[str], *, body: type[BaseModel] | None = None) -> None:
    """Looks whether all that the URL asks for is done.

    Args:
        request: The request.
        known: What its route honours.
        body: The model of its body, where the route reads that by itself.

    Raises:
        UnsupportedParameter: For the first query parameter that is not ``known``, and is one of OpenAI's elsewhere,
            nearly one of OpenAI's, or one of this route's body.
    """
    unknown = [name for name in request.query_params if name not in known] if request.scope["query_string"] else ()
    if not unknown:
        return
    in_body = _names(request.scope["route"].dependant.body_params) if body is None else _fields(body)
    for name in unknown:
        if name in in_body:
            raise UnsupportedParameter(name, f"'{name}' is a parameter of the body. Send it there, not in the URL.")
        if _means_something(name):
            raise UnsupportedParameter(name)


def known_pairs(request: Request, known: Collection[str]) -> list[tuple[str, str]]:
    """The query parameters that are ``known``: what another service is asked for."""
    return [(name, value) for name, value in request.query_params.multi_items() if name in known]


NO_QUERY = Depends(Direct(lambda connection: only_query(connection, ())))
"""For routes without query parameters."""

DECLARED_QUERY = Depends(
    Direct(lambda connection: only_query(connection, _names(connection.scope["route"].dependant.query_params)))
)
"""For routers whose routes declare all of theirs to FastAPI."""


def _names(fields: Iterable[Any]) -> frozenset[str]:
    """What a caller writes for these fields of FastAPI's: their names, or those of what is in the models they are."""
    found: set[str] = set()
    for field in fields:
        annotation = field.field_info.annotation
        kinds = (annotation, *get_args(annotation))
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        found.update(*map(_fields, models))
        if not models:
            found.add(field.alias)
    return frozenset(found)


def _fields(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


class Wanted(NamedTuple):
    """What ``include`` asks for beside the items themselves.

    Attributes:
        results: What file searches found, that is documents.
        images: The data of images in messages.
    """

    results: bool = False
    images: bool = False


def wanted(request: Request) -> Wanted:
    """What ``include`` names. The others of OpenAI's values pass: what is stored has nothing that they would add.

    Raises:
        InvalidRequest: It names something that OpenAI does not know.
    """
    named = [value for name in ("include", "include[]") for value in request.query_params.getlist(name)]
    if not INCLUDABLE.issuperset(named):
        raise InvalidRequest(f"'include' knows {', '.join(sorted(INCLUDABLE))}.", param="include", code="invalid_value")
    return Wanted(RESULTS in named, IMAGES in named)
