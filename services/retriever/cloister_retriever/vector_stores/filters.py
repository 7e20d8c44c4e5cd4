"""OpenAI's attribute filters: checked, then evaluated on the attributes of files.

Attributes are sealed, so Milvus cannot filter on them. The retriever resolves a filter to the files it matches and
asks Milvus for passages of those files only, which is exact.

A comparison with a key that a file does not have, or with a value of another type, is false, except that ``ne`` and
``nin`` are the exact opposites of ``eq`` and ``in``. Numbers compare as numbers, strings by code point (so ISO dates
work), and true is not 1.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from cloister_common.errors import InvalidRequest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

__all__ = ["Comparison", "Compound", "Filter", "check_depth", "matches"]

Value = str | bool | int | float
_Scalar = Annotated[str, StringConstraints(max_length=512)] | bool | Annotated[int | float, Field(allow_inf_nan=False)]

_ORDERS: dict[str, Callable[[str | float, str | float], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_MAX_DEPTH = 8
_MAX_COMPARISONS = 200


class Comparison(BaseModel):
    """``{type, key, value}``."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str = Field(min_length=1, max_length=64)
    value: _Scalar | Annotated[list[_Scalar], Field(max_length=1000)]

    @model_validator(mode="after")
    def _value_suits_the_operator(self) -> "Comparison":
        if (self.type in {"in", "nin"}) != isinstance(self.value, list):
            raise ValueError("'in' and 'nin' take a list, the other operators one value")
        if self.type in _ORDERS and isinstance(self.value, bool):
            raise ValueError(f"'{self.type}' takes a number or a string")
        return self


class Compound(BaseModel):
    """``{type: and|or, filters: [...]}``."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["and", "or"]
    filters: list["Filter"] = Field(min_length=1, max_length=_MAX_COMPARISONS)


def _arm(value: Any) -> str:
    """Which of the two it is meant to be, so that an error speaks of that one only."""
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return "compound" if kind in ("and", "or") else "comparison"


Filter = Annotated[
    Annotated[Comparison, Tag("comparison")] | Annotated[Compound, Tag("compound")], Discriminator(_arm)
]
Compound.model_rebuild()


def matches(filter: Comparison | Compound, attributes: Mapping[str, Value] | None) -> bool:
    """Whether a file with ``attributes`` passes ``filter``."""
    if isinstance(filter, Compound):
        results = (matches(part, attributes) for part in filter.filters)
        return all(results) if filter.type == "and" else any(results)
    found = (attributes or {}).get(filter.key)
    value = filter.value
    if isinstance(value, list):
        return any(_equal(found, one) for one in value) == (filter.type == "in")
    if filter.type in {"eq", "ne"}:
        return _equal(found, value) == (filter.type == "eq")
    return _ordered(found, value, _ORDERS[filter.type])


def check_depth(filter: Comparison | Compound) -> None:
    """Raises `InvalidRequest` for a filter that is nested too deeply or has too many comparisons."""
    waiting = [(filter, 1)]
    comparisons = 0
    while waiting:
        part, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise InvalidRequest(f"'filters' is nested more than {_MAX_DEPTH} deep.", param="filters")
        if isinstance(part, Compound):
            waiting += [(inner, depth + 1) for inner in part.filters]
        else:
            comparisons += 1
    if comparisons > _MAX_COMPARISONS:
        raise InvalidRequest(f"'filters' has more than {_MAX_COMPARISONS} comparisons.", param="filters")


def _kind(value: Value | None) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _equal(left: Value | None, right: Value) -> bool:
    return left is not None and _kind(left) == _kind(right) and left == right


def _ordered(left: Value | None, right: Value, order: Callable[[str | float, str | float], bool]) -> bool:
    if left is None or isinstance(left, bool) or _kind(left) != _kind(right):
        return False
    return order(left, right)
