"""OpenAI's attribute filters, as ``file_search`` and the search of vector stores take them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from cloister_common.errors import InvalidRequest
from cloister_common.wire.requests import RequestModel

__all__ = ["Comparison", "Compound", "Filter", "check_depth"]

_Scalar = Annotated[str, StringConstraints(max_length=512)] | bool | Annotated[int | float, Field(allow_inf_nan=False)]

_ORDERS = frozenset({"gt", "gte", "lt", "lte"})
_MAX_DEPTH = 8
_MAX_COMPARISONS = 200


class Comparison(RequestModel):
    """``{type, key, value}``."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str = Field(min_length=1, max_length=64)
    value: _Scalar | Annotated[list[_Scalar], Field(max_length=1000, fail_fast=True)]

    @model_validator(mode="after")
    def _value_suits_the_operator(self) -> "Comparison":
        if (self.type in {"in", "nin"}) != isinstance(self.value, list):
            raise ValueError("'in' and 'nin' take a list, the other operators one value")
        if self.type in _ORDERS and isinstance(self.value, bool):
            raise ValueError(f"'{self.type}' takes a number or a string")
        return self


class Compound(RequestModel):
    """``{type: and|or, filters: [...]}``."""

    type: Literal["and", "or"]
    filters: list["Filter"] = Field(min_length=1, max_length=_MAX_COMPARISONS, fail_fast=True)


def _arm(value: Any) -> str:
    """Which of the two it is meant to be, so that an error speaks of that one only."""
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    # In brackets, an arm is no part of a field's path; see `cloister_common.validation`.
    return "[compound]" if kind in ("and", "or") else "[comparison]"


Filter = Annotated[
    Annotated[Comparison, Tag("[comparison]")] | Annotated[Compound, Tag("[compound]")], Discriminator(_arm)
]
Compound.model_rebuild()


def check_depth(filter: Comparison | Compound, *, param: str = "filters") -> None:
    """Raises `InvalidRequest` for a filter, which is ``param``, that is nested too deeply or has too many
    comparisons."""
    waiting = [(filter, 1)]
    comparisons = 0
    while waiting:
        part, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise InvalidRequest(f"'{param}' is nested more than {_MAX_DEPTH} deep.", param=param)
        if isinstance(part, Compound):
            waiting += [(inner, depth + 1) for inner in part.filters]
        else:
            comparisons += 1
    if comparisons > _MAX_COMPARISONS:
        raise InvalidRequest(f"'{param}' has more than {_MAX_COMPARISONS} comparisons.", param=param)
