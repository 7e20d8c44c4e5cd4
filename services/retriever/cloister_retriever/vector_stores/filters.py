"""OpenAI's attribute filters, evaluated on the attributes of files.

Attributes are sealed, so Milvus cannot filter on them. The retriever resolves a filter to the files it matches and
asks Milvus for passages of those files only, which is exact.

A comparison with a key that a file does not have, or with a value of another type, is false, except that ``ne`` and
``nin`` are the exact opposites of ``eq`` and ``in``. Numbers compare as numbers, strings by code point (so ISO dates
work), and true is not 1.
"""

import operator
from collections.abc import Callable, Mapping

from cloister_common.wire.filters import Comparison, Compound

__all__ = ["matches"]

Value = str | bool | int | float
_ORDERS: dict[str, Callable[[str | float, str | float], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


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
