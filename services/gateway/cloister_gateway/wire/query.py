"""Query parameters: what a route does not know is refused by name, like what bodies hold."""

from collections.abc import Collection

from cloister_common.access import Direct
from cloister_common.errors import InvalidRequest, UnsupportedParameter
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from cloister_gateway.wire.includes import INCLUDABLE, RESULTS

__all__ = ["NO_QUERY", "asks_for_results", "only_query"]


def only_query(request: HTTPConnection, known: Collection[str]) -> None:
    """Raises `UnsupportedParameter` for the first query parameter that is not ``known``."""
    for name in request.query_params if request.scope["query_string"] else ():
        if name not in known:
            raise UnsupportedParameter(name)


NO_QUERY = Depends(Direct(lambda connection: only_query(connection, ())))
"""For routes without query parameters."""


def asks_for_results(request: Request) -> bool:
    """Whether ``include`` names the results of file searches. The others of OpenAI's values pass: what is stored has
    nothing that they would add.

    Raises:
        InvalidRequest: It names something that OpenAI does not know.
    """
    named = [value for name in ("include", "include[]") for value in request.query_params.getlist(name)]
    if not INCLUDABLE.issuperset(named):
        raise InvalidRequest(f"'include' knows {', '.join(sorted(INCLUDABLE))}.", param="include", code="invalid_value")
    return RESULTS in named
