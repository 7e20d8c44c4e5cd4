"""Functions that a model may call, as Responses and Chat Completions declare and choose them."""

from collections.abc import Collection
from typing import Annotated, Any

from cloister_common.errors import InvalidRequest
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from cloister_gateway.wire.inputs import FunctionName
from cloister_gateway.wire.strict import Schema, Strict

__all__ = ["Function", "check_named"]


def _of_object(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise PydanticCustomError("no_object", "must be the schema of an object: its 'type' is not 'object'")
    return schema


Parameters = Annotated[Schema, AfterValidator(_of_object)]


class Function(Strict):
    """A function's declaration. It runs at the caller's.

    Attributes:
        parameters: The schema of its arguments, an object; None is any object.
        strict: Whether arguments must follow the schema also where the model calls it of its own accord.
    """

    name: FunctionName
    description: str | None = None
    parameters: Parameters | None = None
    strict: bool | None = None


def check_named(name: str, known: Collection[str], *, param: str) -> None:
    """Raises `InvalidRequest` if what ``param`` names is not among the tools of the request."""
    if name not in known:
        raise InvalidRequest(f"'{param}' names '{name}', which is not in 'tools'. Add it there.", param=param)
