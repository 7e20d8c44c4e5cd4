"""Query parameters: what a route does not know is refused by name, like what bodies hold."""

from collections.abc import Collection

from cloister_common.access import Direct
from cloister_common.errors import UnsupportedParameter
from fastapi import Depends, Request
from starlette.requests import HTTPConnection

__all__ = ["NO_QUERY", "asks_for_results", "only_query"]

_RESULTS = "file_search_call.results"


def only_query(request: HTTPConnection, known: Collection[str]) -> None:
    """Raises `UnsupportedParameter` for the first query parameter that is not ``known``."""
    for name in request.query_params if request.scope["query_string"] else ():
        if name not in known:
            raise UnsupportedParameter(name)


NO_QUERY = Depends(Direct(lambda connection: only_query(connection, ())))
"""For routes without query parameters."""


def asks_for_results(request: Request) -> bool:
    """Whether ``include`` names the results of file searches. Of what OpenAI knows there, only they are served.

    Raises:
        UnsupportedParameter: It names something else.
    """
    named = [value for name in ("include", "include[]") for value in request.query_params.getlist(name)]
    if any(value != _RESULTS for value in named):
        raise UnsupportedParameter("include", f"Unsupported value for 'include': only {_RESULTS} is supported.")
    return bool(named)
