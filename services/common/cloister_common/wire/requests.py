"""The base of every request model: strict, and done with a bad body at its first fault.

Pydantic collects every error before it tells the first, at a microsecond and some hundred bytes each, and a body may
hold as many as it has values. So a list or map of a request model stops at its first bad element (``fail_fast=True``;
`tests/unit/house` checks that every one does), and a flood of unknown fields is one error here.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cloister_common.bodies import parse_json
from cloister_common.validation import body_error

__all__ = ["RequestModel", "parse_request"]


class RequestModel(BaseModel):
    """Unknown fields are refused by name, and ``"8"`` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _no_flood_of_fields(cls, data: Any) -> Any:
        fields = cls.model_fields
        # Up to here pydantic finds what is unknown, and everything else that is wrong.
        if isinstance(data, dict) and len(data) > len(fields):
            known = {field.alias or name for name, field in fields.items()}
            raise PydanticCustomError(
                "unknown_field", "is not known", {"field": next(name for name in data if name not in known)}
            )
        return data


M = TypeVar("M", bound=RequestModel)


def parse_request(cls: type[M], raw: bytes) -> M:
    """The request that a raw body holds.

    Raises:
        InvalidRequest: Not JSON, or a wrong, missing or unknown field.
    """
    try:
        return cls.model_validate(parse_json(raw))
    except ValidationError as error:
        raise body_error(error) from None
