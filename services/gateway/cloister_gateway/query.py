"""Query parameters that a route does not know are refused by name, like those of bodies."""

from collections.abc import Collection

from cloister_common.errors import UnsupportedParameter
from fastapi import Request

__all__ = ["only_query"]


def only_query(request: Request, known: Collection[str]) -> None:
    """Raises `UnsupportedParameter` for the first query parameter that is not ``known``."""
    for name in request.query_params:
        if name not in known:
            raise UnsupportedParameter(name)
