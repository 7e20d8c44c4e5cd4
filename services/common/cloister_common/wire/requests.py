"""The base of every request model: strict, and done with a bad body at its first fault.

Pydantic collects every error before it tells the first, at a microsecond and some hundred bytes each, and a body may
hold as many as it has values. So a list or map of a request model stops at its first bad element (``fail_fast=True``;
`tests/unit/house` checks that every one does), and a flood of unknown fields is one error here.

A model also says how each parameter is treated, in the one place from which docs/parameters.md is made: a field is
honoured (its ``description`` says how, where that is not what OpenAI's reference says), or a `Hint`; and what would
change the answer and is not served stands in ``refused``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from cloister_common.bodies import parse_json
from cloister_common.validation import body_error

__all__ = ["Extension", "Hint", "RequestModel", "hints_of", "mark_of", "parse_request"]


@dataclass(frozen=True, slots=True)
class Hint:
    """Marks a field that is taken and changes no answer: ``Annotated[str | None, Hint("Nothing reads it.")]``.

    Attributes:
        why: Why leaving it aside ignores nothing.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Extension:
    """Marks a field that OpenAI's schema does not have.

    Attributes:
        origin: Whose it is.
    """

    origin: str = "ours"


class RequestModel(BaseModel):
    """Unknown fields are refused by name, and ``"8"`` is no number.

    Null stands for the default, also where OpenAI's schema says null and the field has another type.

    Attributes:
        refused: What OpenAI's schema has here and is not served, since it would change the answer; with a sentence
            that says what to do. Null and an empty list ask for nothing, and pass.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    refused: ClassVar[Mapping[str, str]] = {}
    null_passes: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**keywords)
        fields = cls.model_fields.items()
        # Where the default itself is null, the type takes it, and whether it was sent may mean something.
        typed = {field.alias or name for name, field in fields if not field.is_required() and field.default is not None}
        cls.null_passes = frozenset(typed | cls.refused.keys())

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if not cls.null_passes.isdisjoint(data):
            data = {name: value for name, value in data.items() if not cls._says_nothing(name, value)}
            for name in cls.refused if not cls.refused.keys().isdisjoint(data) else ():
                if name in data:
                    context = {"field": name, "why": cls.refused[name]}
                    raise PydanticCustomError("refused_field", "{why}", context)
        fields = cls.model_fields
        # Up to here pydantic finds what is unknown, and everything else that is wrong.
        if len(data) > len(fields):
            known = {field.alias or name for name, field in fields.items()}
            raise PydanticCustomError(
                "unknown_field", "is not known", {"field": next(name for name in data if name not in known)}
            )
        return data

    @classmethod
    def _says_nothing(cls, name: str, value: Any) -> bool:
        return (value is None and name in cls.null_passes) or (value == [] and name in cls.refused)


def mark_of(field: FieldInfo) -> Hint | Extension | None:
    """How a field is marked; None for one of OpenAI's that is honoured."""
    return next((mark for mark in field.metadata if isinstance(mark, Hint | Extension)), None)


@cache
def hints_of(cls: type[BaseModel]) -> frozenset[str]:
    """The names of the fields that are hints: what a body for another service leaves out."""
    return frozenset(name for name, field in cls.model_fields.items() if isinstance(mark_of(field), Hint))


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
