"""What the request models of the data API share. What we do not serve is refused by name, never ignored."""

from typing import Annotated, Any

import orjson
from cloister_common.wire.json_schema import SchemaError, check_json_schema
from cloister_common.wire.requests import RequestModel
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, StringConstraints
from pydantic_core import PydanticCustomError

__all__ = [
    "LARGEST_NUMBER",
    "MAX_INPUT_CHARACTERS",
    "Metadata",
    "Object",
    "Schema",
    "Strict",
    "Text",
    "by_type",
    "only",
]

LARGEST_NUMBER = 2**31 - 1
"""A bound on counts that have none of their own, which every store and service behind this one can hold."""

_DEEPEST_LEVELS = 240

MAX_INPUT_CHARACTERS = 1_000_000
"""A bound on one text. What fits into the model is decided later, by tokens; this keeps absurd bodies out."""

Text = Annotated[str, StringConstraints(max_length=MAX_INPUT_CHARACTERS)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16, fail_fast=True),
]


def _storable(value: Any) -> Any:
    """Refuses what can be read and not be written again in a record or request around it: orjson writes 254 levels."""
    around = value
    for _ in range(254 - _DEEPEST_LEVELS):
        around = [around]
    try:
        orjson.dumps(around)
    except TypeError as error:
        raise PydanticCustomError(
            "not_storable", "must not be nested beyond {most} levels", {"most": _DEEPEST_LEVELS}
        ) from error
    return value


Object = Annotated[dict[str, Any], AfterValidator(_storable)]


def _compilable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        check_json_schema(value)
    except SchemaError as error:
        raise PydanticCustomError("json_schema", "{reason}", {"reason": str(error)}) from error
    return value


Schema = Annotated[dict[str, Any], AfterValidator(_compilable)]
"""A JSON schema that goes to a pod; its bounds are inside those of `Object`."""


def only(*known: Any) -> BeforeValidator:
    """Refuses what OpenAI knows and we do not serve as *unsupported*, not as wrong."""

    def check(value: Any) -> Any:
        if value is not None and value not in known:
            listed = ", ".join(str(one).lower() for one in known)
            raise PydanticCustomError("unsupported_value", "only {known} is supported", {"known": listed})
        return value

    return BeforeValidator(check)


def by_type(*kinds: str, plain: str | None = None) -> Discriminator:
    """Tells the members of a union by their ``type``; each has it as its tag, in brackets.

    In brackets, a kind is no part of a field's path (`cloister_common.validation`).

    Args:
        kinds: The types that are served, for the error that names them.
        plain: The tag of what is no object, if there is such a member.
    """

    def tag(value: Any) -> str:
        kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", plain)
        return f"[{kind}]"

    return Discriminator(
        tag, custom_error_type="unsupported_type", custom_error_message=f"only {', '.join(kinds)} is supported"
    )


class Strict(RequestModel):
    """Base of the request models of the data API."""
